"""Changes of one sign, digit, operator, relation, bracket, name or unit; each gives None where it does not apply."""

import random
import re
from collections.abc import Callable

from arpo.lab.bench.meaning.references import Style

Change = Callable[[str, random.Random], str | None]


def _replaced(text: str, pattern: str, rng: random.Random, new: Callable[[re.Match[str]], str]) -> str | None:
    """The text with one match of the pattern, drawn, replaced."""
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    match = rng.choice(found)
    changed = text[: match.start()] + new(match) + text[match.end() :]
    return changed if changed != text else None


def _digit(text: str, rng: random.Random) -> str | None:
    return _replaced(text, r"\d", rng, lambda m: rng.choice([d for d in "123456789" if d != m[0]]))


def _sign(text: str, rng: random.Random) -> str | None:
    inserted = re.match(r"[\d\\a-zA-Z]", text) and not re.match(r"\\(?:begin|text|\{|left|boxed|pm)", text) and "=" not in text
    if inserted and rng.random() < 0.5:
        return "-" + text
    return _replaced(text, r"(?<!\{)[-+](?=[\s\d\\a-zA-Z(])", rng, lambda m: "+" if m[0] == "-" else "-")


def _operator(text: str, rng: random.Random) -> str | None:
    others = {"+": "-", "-": "+", "/": "+", r"\cdot": "+", r"\times": "+", "^": "+", r"\pm": "+"}
    pattern = r"(?<=[\d\w)}\s])(?:[-+/]|\\cdot|\\times|\^(?!\s*\{?\s*\\))(?=[\s\d\w\\({])|\\pm"
    return _replaced(text, pattern, rng, lambda m: others[m[0]])


def _relation(text: str, rng: random.Random) -> str | None:
    others = {
        "<": [">", r"\le "], ">": ["<", r"\ge "], "=": ["<", r"\ne "], r"\le": [r"\ge", "<"], r"\ge": [r"\le", ">"],
        r"\leq": [r"\geq", "<"], r"\geq": [r"\leq", ">"], r"\leqslant": [r"\geqslant"], r"\geqslant": [r"\leqslant"],
    }  # fmt: skip
    pattern = r"\\(?:leqslant|geqslant|leq|geq|le|ge)(?![a-z])|[<>=]"
    return _replaced(text, pattern, rng, lambda m: rng.choice(others[m[0]]))


def _bracket(text: str, rng: random.Random) -> str | None:
    text = re.sub(r"\\(?:left|right)\s*(?=[()\[\]])", "", text.strip())
    if not re.fullmatch(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]|\\\{[^{}\\|:]*,[^{}\\|:]*\\\}", text) or "infty" in text[-8:]:
        return None
    if text.startswith("\\{"):
        return "(" + text[2:-2] + ")"
    return {"(": "[", "[": "("}[text[0]] + text[1:]


def _name(text: str, rng: random.Random) -> str | None:
    is_formula = re.search(r"\\|[=^<>+]", text) is not None
    pattern = r"(?<![a-zA-Z\\{])[a-zA-Z](?![a-zA-Z])" if is_formula else r"(?<![a-zA-Z])[abcdkmnpqrstxyz](?![a-zA-Z])"
    return _replaced(text, pattern, rng, lambda m: rng.choice([c for c in "abckmnpqrtuvwxyz" if c != m[0].lower()]))


_UNITS = (
    r"\b(?:cm|km|kg|m/s|km/h|square inches|hours|minutes|feet|seconds|dollars|miles|pounds|apples|acres|inches|mph)\b"
    r"|\\%|%|\^\s*\{?\\circ\}?"
)
_OTHER = {
    "cm": "kg", "km": "m", "kg": "g", "m/s": "km/h", "km/h": "m/s", "square inches": "inches", "hours": "minutes",
    "minutes": "hours", "feet": "inches", "seconds": "hours", "dollars": "cents", "miles": "km", "pounds": "kg",
    "apples": "pears", "acres": "km", "inches": "feet", "mph": "km/h",
}  # fmt: skip


def _unit(text: str, rng: random.Random) -> str | None:
    if re.fullmatch(r"-?\d[\d.,]*", text):
        return text + rng.choice([r"\%", r"_7", r" \text{ cm}", r"^\circ"])
    return _replaced(text, _UNITS, rng, lambda m: _OTHER.get(m[0], ""))


_FUNCTIONS = {"sin": "cos", "cos": "sin", "tan": "sin", "ln": "sin", "log": "exp", "exp": "ln", "sqrt": "ln"}


def _function(text: str, rng: random.Random) -> str | None:
    return _replaced(text, r"(?<=\\)(?:sin|cos|tan|ln|exp|sqrt(?=\{))(?![a-z])", rng, lambda m: _FUNCTIONS[m[0]])


def _item(text: str, rng: random.Random) -> str | None:
    """One item of a list is left out, or stands twice in a tuple."""
    found = re.fullmatch(r"(\\\{|\(|\[|)([^(){}\[\]\\|]+(?:, ?[^(){}\[\]\\|]+)+)(\\\}|\)|\]|)", text.strip())
    if found is None or re.search(r"[a-zA-Z]{3}|\d,\d{3}", text):
        return None
    items = found[2].split(",")
    del items[rng.randrange(len(items))]
    return None if len(set(items)) == len(set(found[2].split(","))) else found[1] + ",".join(items) + found[3]


def _order(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"\(([^(){}\[\]|,]+), ?([^(){}\[\]|,]+)\)", text.strip())
    return None if found is None else f"({found[2]}, {found[1]})"


def _letter(text: str, rng: random.Random) -> str | None:
    return _replaced(text, r"[a-zA-Z]", rng, lambda m: rng.choice([c for c in "bcdfgklmnprstvz" if c != m[0].lower()]))


def _word(text: str, rng: random.Random) -> str | None:
    words = text.split()
    if len(words) < 2:
        return None
    index = rng.randrange(len(words))
    if re.sub(r"\W", "", words[index].lower()) in ("a", "an", "the", "and") or not re.search(r"\w", words[index]):
        return None
    return " ".join(words[:index] + words[index + 1 :])


def _attached_sign(text: str, rng: random.Random) -> str | None:
    return text + rng.choice(["+", "#", "°", "-"]) if re.search(r"\w$", text) else None


def _leading_sign(text: str, rng: random.Random) -> str | None:
    return _replaced(text, r"(?<![\w.,-])\d", rng, lambda m: "-" + m[0])


CHANGES: dict[Style, dict[str, Change]] = {
    "math": {
        "digit": _digit, "sign": _sign, "operator": _operator, "relation": _relation, "bracket": _bracket, "name": _name,
        "unit": _unit, "function": _function, "item": _item, "order of a pair": _order,
    },
    "number": {"digit": _digit, "sign": _sign, "unit": _unit},
    "words": {
        "letter": _letter, "digit in words": _digit, "word": _word, "sign behind a word": _attached_sign,
        "sign before a number": _leading_sign,
    },
}  # fmt: skip
"""By the style of a reference and the kind of change."""
