r"""From text to tokens: LaTeX, Unicode and plain notation in one alphabet.

What only sets type is dropped here: `\left`, thin spaces, `\displaystyle`, dollar signs around mathematics, the size of
fractions. Nothing else is.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from arpo.rewards.mathematics.names import (
    ACCENTS,
    COMMANDS,
    CONSTANTS,
    FUNCTIONS,
    GREEK,
    PROSE,
    SPACES,
    STYLES,
    TEXTS,
    UNICODE,
)  # fmt: skip
from arpo.rewards.spelling import unify

MAX_TOKENS = 2000
TokenKind = Literal["number", "letters", "word", "function", "symbol", "operator", "command", "currency", "end"]


class NotReadError(Exception):
    """The text is no formula this grammar knows."""


@dataclass(slots=True, frozen=True)
class Token:
    """One token. Tokens are equal where kind and text are."""

    kind: TokenKind
    text: str
    number: Fraction | None = None
    """The value of a `number`; None for every other kind."""
    is_spaced: bool = False
    """Whether a blank stands before it."""
    is_set: bool = False
    r"""Whether it stands in `\text{...}` or its like."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from another token."""
        return (self.kind if self.kind != "letters" else "word", str(self.number) if self.number is not None else self.text)


_NUMBER = re.compile(
    r"""
    (?P<european>\d{1,3}(?:\.\d{3})+,\d+(?![\d,])|\d{1,3}(?:\.\d{3}){2,}(?![\d.,])
      |\d{1,3}(?:[ ]\d{3})+,\d{1,2}(?![\d,]))
  | (?P<grouped>\d{1,3}(?:(?:,|\{,\}|,?\\!,?|,\\!)\d{3})+(?!\d|,\d)(?:\.\d+)?)
  | (?P<braced>\d{1,3}(?:\{,\}\d{3})+(?!\d)(?:\.\d+)?)
  | (?P<spaced>\d{1,3}(?:(?:[ ']|\\,|\\\ |\\;|\\thinspace\ ?|~)\d{3})+(?![\d/]|[ ']\d|\s*\\frac)(?:\.\d+)?)
  | (?P<plain>(?:\d+(?:\.\d+|\.(?=\\overline))?|\.\d+)(?:[eE][-+]?\d{1,4}(?![\w.^]))?)
    """,
    re.VERBOSE | re.ASCII,
)
_RUN = re.compile(r"[^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ₀₁₂₃₄₅₆₇₈₉½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒]+")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+\*?|.)", re.DOTALL)
_OPERATOR = re.compile(r"\*\*|<=|>=|!=|==|=>|->|:=|\.\.\.|.", re.DOTALL)
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋]+")
_PLAIN_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-()n0123456789+-")
_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5),
    "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8), "⅐": (1, 7), "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip
_ANNOUNCED = re.compile(
    r"^(?:\\text\s*\{\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is|:)\s*:?\s*\}|(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|:)\s*:?)\s*(?=\S)",
    re.IGNORECASE,
)
_CURRENCY = {"$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen", "₹": "rupee"}


def tokenize(text: str, *, groups_digits: bool = True) -> list[Token]:
    r"""The tokens of a text, an `end` behind them.

    Args:
        text: LaTeX, plain text or what Python prints, as `clean` leaves it.
        groups_digits: Whether a comma between digits may group them, as in `1,000`; never inside brackets.

    Raises:
        NotReadError: it is too long, or has a character or command of no known meaning.
    """
    return [*_Reader(text, groups_digits).read(), Token("end", "")]


def clean(text: str) -> str:
    r"""The text in one spelling without what stands around it: `$...$`, `\boxed{...}`, Markdown's stars, the full stop."""
    text = unify(text).replace("\u2062", "").strip()
    if "\\circ" in text:
        text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))", "°", text)
    text = re.sub(r"\b([apAP])\.\s?[mM]\b\.?", r"\1m", text)
    text = re.sub(r"(?<=[)\]])\s*U\s*(?=[(\[])", r" \\cup ", text)
    while True:
        before = text
        text = _ANNOUNCED.sub("", text)
        text = re.sub(r"^(\*\*|__|\*|_|`+|'''?|\"|')(?=\S)(.*\S)\1$", r"\2", text, flags=re.DOTALL).strip()
        text = re.sub(r"^\\[(\[](.*)\\[)\]]$", r"\1", text, flags=re.DOTALL).strip()
        text = re.sub(r"^\$\$?([^$]*)\$\$?$", r"\1", text).strip() if text.endswith("$") else text
        text = re.sub(r"^\\boxed\s*\{([^{}]*|.*)\}$", r"\1", text, flags=re.DOTALL).strip() if _is_one_box(text) else text
        text = re.sub(r"(?<!\.)(?<!\\)[.。]$", "", text).strip()
        if text == before:
            return text


def _is_one_box(text: str) -> bool:
    found = re.match(r"\\boxed\s*\{", text)
    if found is None:
        return False
    depth = 1
    for token in re.finditer(r"\\.|[{}]", text[found.end() :], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return found.end() + token.end() == len(text)
    return False


class _Reader:
    def __init__(self, text: str, groups_digits: bool, *, is_set: bool = False) -> None:
        self._text, self._groups, self._is_set = text, groups_digits, is_set
        self._at, self._depth, self._is_spaced = 0, 0, False
        self._tokens: list[Token] = []

    def read(self) -> list[Token]:
        while self._at < len(self._text):
            self._step()
            if len(self._tokens) > MAX_TOKENS:
                raise NotReadError("too long")
        return self._tokens

    def _add(self, kind: TokenKind, text: str, value: Fraction | None = None, *, is_set: bool = False) -> None:
        self._tokens.append(Token(kind, text, value, self._is_spaced, is_set or self._is_set))
        self._is_spaced = False

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _step(self) -> None:
        character = self._text[self._at]
        if character.isspace() or character == "~":
            self._at, self._is_spaced = self._at + 1, True
        elif (character.isdigit() or character == ".") and (found := self._number()):
            self._add("number", found[0], found[1])
        elif character == "\\":
            self._command()
        elif found := self._match(_SUPERSCRIPT):
            self._insert("^{" + found[0].translate(_PLAIN_DIGITS) + "}")
        elif found := self._match(_SUBSCRIPT):
            self._insert("_{" + found[0].translate(_PLAIN_DIGITS) + "}")
        elif character in _VULGAR:
            self._at += 1
            self._add("number", character, Fraction(*_VULGAR[character]))
        elif character in UNICODE:
            self._at += 1
            self._insert(UNICODE[character])
        elif found := self._match(_RUN):
            self._letters(found[0])
        else:
            self._operator()

    def _insert(self, text: str) -> None:
        inner = _Reader(text, self._groups, is_set=self._is_set)
        tokens = inner.read()
        if tokens and self._is_spaced:
            first = tokens[0]
            tokens[0] = Token(first.kind, first.text, first.number, True, first.is_set)
        self._tokens += tokens
        self._is_spaced = False

    def _number(self) -> tuple[str, Fraction] | None:
        follows_comma = self._at >= 2 and self._text[self._at - 1] == "," and self._text[self._at - 2].isdigit()
        may_group = self._groups and self._depth == 0 and not follows_comma
        found = _NUMBER.match(self._text, self._at)
        if found is None:
            return None
        if found.lastgroup in ("european", "grouped") and not may_group and found["braced"] is None:
            found = re.compile(r"(?P<plain>\d+(?:\.\d+)?|\.\d+)", re.ASCII).match(self._text, self._at)
            assert found is not None
        if found.lastgroup == "spaced" and (self._tokens and self._tokens[-1].text == "^"):
            found = re.compile(r"(?P<plain>\d+)", re.ASCII).match(self._text, self._at)
            assert found is not None
        self._at = found.end()
        text = found[0]
        if found.lastgroup == "european":
            text = text.replace(".", "").replace(" ", "").replace(",", ".")
        elif found.lastgroup != "plain":
            text = re.sub(r"[^\d.]", "", text)
        return text.lower(), Fraction(text)

    def _letters(self, run: str) -> None:
        lower = run.lower()
        if run == "min" and (self._is_set or (self._tokens and self._tokens[-1].kind == "number")):  # minutes
            self._add("word" if self._is_set else "letters", run)
        elif run in FUNCTIONS or (run in CONSTANTS and not self._is_set):
            self._add("function" if run in FUNCTIONS else "command", run)
        elif len(run) == 1 or (run in GREEK and not self._is_set):
            self._add("symbol", run)
        elif lower in PROSE or self._is_set or not run.isascii() or (len(run) > 2 and run.istitle()):
            self._add("word", run)
        else:
            self._add("letters", run)

    def _operator(self) -> None:
        found = self._match(_OPERATOR)
        assert found is not None
        text = found[0]
        if text in ("(", "["):
            self._depth += 1
        elif text in (")", "]"):
            self._depth -= 1
        if text == "$":
            follows_amount = re.match(r"\s*[\d.]", self._text[self._at :]) is not None
            if self._text.count("$") % 2 and follows_amount:
                self._add("currency", "dollar")
            return  # a sign of mathematics set in prose
        if text in _CURRENCY:
            self._add("currency", _CURRENCY[text])
        elif text.isprintable():
            self._add("operator", {"**": "^", "==": "=", "…": "..."}.get(text, text))
        else:
            raise NotReadError(f"{text!r} has no meaning here")

    def _command(self) -> None:
        found = self._match(_COMMAND)
        name = found[0] if found else "\\"
        if found is None:
            self._at += 1
            raise NotReadError("a lone backslash")
        if name in SPACES:
            self._is_spaced = self._is_spaced or name != "\\!"
        elif name in STYLES:
            if self._text[self._at : self._at + 1] == "." and name in ("\\left", "\\right"):
                self._at += 1
        elif name in TEXTS:
            self._set_text(name)
        elif name in ACCENTS:
            self._add("symbol", f"{name[1:]} {self._argument()}")
        elif name in COMMANDS:
            meaning = COMMANDS[name]
            if meaning in ("(", "[", "\\{"):
                self._depth += 1
            elif meaning in (")", "]", "\\}"):
                self._depth -= 1
            self._add("operator", meaning)
        elif name == "\\$":
            self._add("currency", "dollar")
        elif name[1:] in FUNCTIONS:
            self._add("function", name[1:])
        elif name[1:] in GREEK:
            self._add("symbol", GREEK[name[1:]])
        elif len(name) > 2 or name in ("\\\\", "\\%", "\\&", "\\#", "\\_", "\\|"):
            self._add("command", name)
        else:
            raise NotReadError(f"{name} is not known")

    def _argument(self) -> str:
        """The text of the group, or the one character, that follows."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        if self._text[self._at : self._at + 1] != "{":
            found = _COMMAND.match(self._text, self._at) or re.compile(".", re.DOTALL).match(self._text, self._at)
            self._at = found.end() if found else self._at
            return found[0] if found else ""
        begin, depth = self._at + 1, 0
        for token in re.compile(r"\\.|[{}]", re.DOTALL).finditer(self._text, self._at):
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if depth == 0:
                self._at = token.end()
                return self._text[begin : token.start()].strip()
        self._at = len(self._text)
        return self._text[begin:].strip()

    def _set_text(self, command: str) -> None:
        content = self._argument()
        if command == "\\boxed":
            return self._insert(content)
        content = content.replace("$", "")
        if command == "\\textcolor" or command == "\\color":
            content = self._argument() if command == "\\textcolor" else ""
        if command in ("\\mathbb", "\\mathcal"):
            return self._add("symbol", f"{command[1:]} {content}")
        if command in ("\\operatorname", "\\operatorname*", "\\mathop") and content.isalpha():
            return self._add("function" if content in FUNCTIONS else "word", content, is_set=True)
        inner = _Reader(content, self._groups, is_set=True)
        inner._is_spaced = self._is_spaced
        self._tokens += inner.read()
        self._is_spaced = False
        return None
