"""Rewritings that keep the meaning of an answer; each gives None where it does not apply."""

import random
import re
import unicodedata
from collections.abc import Callable

from arpo.lab.bench.meaning.references import Style

Rewriting = Callable[[str, random.Random], str | None]


def _if_changed(text: str, rewritten: str) -> str | None:
    return rewritten if rewritten != text else None


def _has_words(text: str) -> bool:
    return re.search(r"(?<!\\)\b[^\W\d_]{3,}|^[A-Z][.:] ", text) is not None


def _wider(text: str, rng: random.Random) -> str | None:
    if _has_words(text):
        return None
    return _if_changed(text, re.sub(r"(?<=[\w)}])\s*([+=<>])\s*", r"  \1 ", text))


def _tighter(text: str, rng: random.Random) -> str | None:
    if _has_words(text) or re.search(r"\d\s+\d|\de\s|\\[a-zA-Z]+\s+[a-zA-Z]|[a-zA-Z]\s+[a-zA-Z]|\d\s+\\frac", text):
        return None
    return _if_changed(text, re.sub(r"(?<!\\) ", "", text.strip()))


def _display_fractions(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, re.sub(r"\\frac(?![a-z])", rng.choice([r"\\dfrac", r"\\tfrac"]), text))


def _sized_brackets(text: str, rng: random.Random) -> str | None:
    if not re.fullmatch(r"[^()\[\]]*\([^()\[\]]*\)[^()\[\]]*", text) or "\\left" in text or "\\(" in text:
        return None
    return text.replace("(", r"\left(").replace(")", r"\right)")


def _math_mode(text: str, rng: random.Random) -> str | None:
    if "$" in text or "\\(" in text or "\\[" in text:
        return None
    return rng.choice(["${}$", r"\({}\)", r"\[ {} \]", r"\boxed{{{}}}"]).format(text)


def _markdown(text: str, rng: random.Random) -> str | None:
    return None if "*" in text or "_" in text or "`" in text else f"**{text.strip()}**"


def _full_stop(text: str, rng: random.Random) -> str | None:
    return None if text.rstrip()[-1:] in ".!?…" else text.rstrip() + "."


_SIGNS = {
    r"\pi": "π", r"\times": "×", r"\cdot": "·", r"\leq": "≤", r"\geq": "≥", r"\le": "≤", r"\ge": "≥", r"\infty": "∞",
    r"\cup": "∪", r"\pm": "±", r"\circ": "°", r"\in": "∈", r"\alpha": "α", r"\theta": "θ", r"\div": "÷", r"\neq": "≠",
}  # fmt: skip


def _unicode_signs(text: str, rng: random.Random) -> str | None:
    rewritten = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", text)
    for command, sign in _SIGNS.items():
        rewritten = re.sub(re.escape(command) + r"(?![a-zA-Z])", f" {sign} ", rewritten)
    return _if_changed(text, rewritten)


def _unicode_minus(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, text.replace("-", "−"))


def _superscripts(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, re.sub(r"\^(?:\{([23])\}|([23]))(?!\d)", lambda m: "²³"[int(m[1] or m[2]) - 2], text))


def _full_width(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, re.sub(r"[0-9]", lambda m: chr(ord(m[0]) + 0xFEE0), text))


def _python(text: str, rng: random.Random) -> str | None:
    unlike = r"\d\s*\\[dt]?frac|[{}]\^|text|mathrm|mbox|[_&:%$!|]|circ"
    unlike += r"|\\[a-z]*(?:sin|cos|tan|log|ln|exp|binom|cup|in\b|pm|le|ge|begin)"
    if re.search(unlike, text) or _has_words(text):
        return None
    rewritten = re.sub(r"\\(?:left|right)", "", text)
    for _ in range(4):
        rewritten = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", rewritten)
        rewritten = re.sub(r"(?<=[\d)a-z])\s*\\sqrt\s*\{([^{}]*)\}", r"*sqrt(\1)", rewritten)
        rewritten = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)", rewritten)
        rewritten = re.sub(r"\^\s*\{([^{}]*)\}", r"**(\1)", rewritten)
    rewritten = rewritten.replace("^", "**").replace(r"\cdot", "*").replace(r"\times", "*")
    rewritten = re.sub(r"(?<=\d)\s*\\pi", "*pi", rewritten).replace(r"\pi", "pi")
    rewritten = re.sub(r"\)\s*(?=[a-z(])", ")*", rewritten) if "," not in rewritten and "=" not in rewritten else rewritten
    rewritten = re.sub(r"(?<=\d)(?=\()", "*", rewritten)
    return None if "\\" in rewritten or "{" in rewritten else _if_changed(text, rewritten)


def _as_fraction(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(-?)(\d{1,6})\.(\d{1,4})", text)
    if found is None:
        return None
    return rf"{found[1]}\frac{{{int(found[2] + found[3])}}}{{{10 ** len(found[3])}}}"


def _as_quotient(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", text)
    return None if found is None else f"{found[1]}{found[2]}/{found[3]}"


def _as_decimal(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(-?)\d{1,9}", text)
    return None if found is None else text + rng.choice([".0", ".00"])


def _grouped(text: str, rng: random.Random) -> str | None:
    if not re.fullmatch(r"\d{4,12}", text):
        return None
    grouped = f"{int(text):,}"
    return grouped.replace(",", rng.choice([",", "{,}", r"\,", " ", r",\!"])) if str(int(text)) == text else None


def _other_order(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(\\\{)([^\\(){}\[\]]+,[^\\(){}\[\]]+)(\\\})", text) or re.fullmatch(
        r"()([-+]?[\d./]+(?:, [-+]?[\d./]+)+)()", text
    )
    if found is None or "|" in text:
        return None
    items = [item.strip() for item in found[2].split(",")]
    rng.shuffle(items)
    return found[1] + ", ".join(items) + found[3]


def _named(text: str, rng: random.Random) -> str | None:
    return (
        f"{rng.choice(['n', 'S', 'k_1'])} = {text}" if re.fullmatch(r"-?\d+(?:\.\d+)?|-?\\frac\{\d+\}\{\d+\}", text) else None
    )


_SPELLINGS = {
    "cm": "centimeters", "km": "kilometers", "kg": "kilograms", "m": "meters", "hours": "hrs", "minutes": "min",
    "seconds": "s", "feet": "ft", "square inches": "inches^2", "dollars": "dollar", "miles": "mi", "pounds": "lb",
    "km/h": "kilometers per hour",
    "m/s": "meters per second",
}  # fmt: skip


def _unit_spelling(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(.*\d)(\s*(?:\\,)?\s*)(\\(?:text|mbox|mathrm)\{\s*)?([a-z/ ]+?)(\s*\})?(\^2)?", text)
    if found is None or found[4] not in _SPELLINGS:
        return None
    other = _SPELLINGS[found[4]]
    if found[6] and not found[4].isalpha():
        return None
    body, power = (other[:-2], "^2") if other.endswith("^2") else (other, found[6] or "")
    return rf"{found[1]} \text{{ {body}}}{power}" if found[3] else f"{found[1]} {body}{power}"


def _currency_word(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"\\?\$(\d+(?:\.\d+)?)", text)
    return None if found is None else rng.choice([f"{found[1]} dollars", rf"{found[1]} \text{{ dollars}}"])


def _other_case(text: str, rng: random.Random) -> str | None:
    if not re.search(r"[a-zA-Z]{3}", text) or re.search(r"(?<![\w'])A(?!\w)|\d", text):
        return None
    return _if_changed(text, rng.choice([text.lower(), text.upper()]))


def _with_article(text: str, rng: random.Random) -> str | None:
    return f"the {text}" if re.fullmatch(r"[A-Z][a-z]{3,} [A-Z][a-z]{3,}", text) else None


def _quoted(text: str, rng: random.Random) -> str | None:
    return None if re.search("[\"“”'«»]", text) else rng.choice(["“{}”", '"{}"', "«{}»", "「{}」"]).format(text)


def _decomposed(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, unicodedata.normalize("NFD", text))


def _other_blanks(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, text.replace(" ", rng.choice(["\u00a0", "  ", "\u202f", "\u3000"])))


def _zero_width(text: str, rng: random.Random) -> str | None:
    at = rng.randint(1, max(1, len(text) - 1))
    return text[:at] + rng.choice("\u200b\u00ad\ufeff") + text[at:]


def _other_dash(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, text.replace("-", rng.choice("‐‑–")))


def _other_apostrophe(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, text.replace("'", "’"))


REWRITINGS: dict[Style, dict[str, Rewriting]] = {
    "math": {
        "wider spacing": _wider, "tighter spacing": _tighter, "size of fractions": _display_fractions,
        "size of brackets": _sized_brackets, "mathematics mode or box": _math_mode, "Markdown": _markdown,
        "full stop": _full_stop, "Unicode signs": _unicode_signs, "Unicode minus": _unicode_minus,
        "superscripts": _superscripts,
        "full-width digits": _full_width, "Python's notation": _python, "decimal as fraction": _as_fraction,
        "fraction as quotient": _as_quotient, "integer as decimal": _as_decimal, "grouped digits": _grouped,
        "order of a set or list": _other_order, "named value": _named, "spelling of the unit": _unit_spelling,
        "currency in words": _currency_word,
    },
    "number": {
        "Markdown": _markdown, "full stop": _full_stop, "Unicode minus": _unicode_minus, "full-width digits": _full_width,
        "decimal as fraction": _as_fraction, "integer as decimal": _as_decimal, "grouped digits": _grouped,
        "named value": _named, "spelling of the unit": _unit_spelling, "mathematics mode or box": _math_mode,
    },
    "words": {
        "case": _other_case, "full stop": _full_stop, "article": _with_article, "quotation marks": _quoted,
        "decomposed letters": _decomposed, "blanks": _other_blanks, "zero-width characters": _zero_width, "dashes": _other_dash,
        "apostrophes": _other_apostrophe, "full-width digits": _full_width,
    },
}  # fmt: skip
"""By the style of a reference and the kind of rewriting."""
