r"""Reads the text of an answer: the box, numbers, and a normal form of words that keeps signs, decimal points and letters.

The normal form follows SQuAD's (lower case, no punctuation, no articles, single spaces) without its losses:

| text | SQuAD's | here |
|---|---|---|
| `-5` | `5` | `-5` |
| `1.2` | `12` | `6/5` |
| `1/2` | `12` | `1/2` |
| `(1,2)` | `12` | `1,2` |
| `12%` | `12` | `3/25` |
| `1,000` | `1000` | `1000` |
| `A` | (nothing) | `a` |
| `\text{Paris}` | `textparis` | `paris` |
| `2020-01-05` | `20200105` | `2020-01-05` |
"""

import re
import string
from fractions import Fraction

ARTICLES = frozenset({"a", "an", "the"})
_MAX_NUMBER_LENGTH = 100
_MAX_NESTING = 4

_PLAIN_NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:e[-+]?\d{1,2})?", re.ASCII)
_QUOTIENT = re.compile(r"([-+]?\d+)/([-+]?\d+)", re.ASCII)
_LATEX_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_NUMBER_LIST = re.compile(r"[-+]?[\d./]+(?:\s*,\s*[-+]?[\d./]+)+")
_MIXED_NUMBER = re.compile(r"([-+]?)(\d+)(?:\s+(\d+)/(\d+)|\s*\\[dt]?frac\s*(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d)))", re.ASCII)
_MATH_MODE = {(r"\(", r"\)"), (r"\[", r"\]")}
_CURRENCY = "$€£¥"
_PUNCTUATION = frozenset(string.punctuation) | frozenset("“”‘’«»„…–—·")


def extract_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, with balanced braces, `\{` being a character; None without a box.

    Example:
        extract_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}")  # -> r"\frac{1}{2}"
    """
    starts = list(re.finditer(r"\\boxed\s*\{", text))
    if not starts:
        return None
    begin = starts[-1].end()
    depth = 1
    for token in re.finditer(r"\\.|[{}]", text[begin:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return text[begin : begin + token.start()].strip()
    return None


def plain(text: str) -> str:
    r"""The text without LaTeX for typesetting: `\text{...}`, `$...$` around it, `\%`, `\$`, thin spaces."""
    for _ in range(_MAX_NESTING):
        text = _LATEX_TEXT.sub(r"\1", text)
    text = re.sub(r"\\([%$&#_])", r"\1", text)
    text = re.sub(r"\\[,;!:]|\{,\}", lambda m: "," if m[0] == "{,}" else "", text)
    text = re.sub(r"\\ |~", " ", text).replace("−", "-").strip()
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    if len(text) > 4 and (text[:2], text[-2:]) in _MATH_MODE:
        text = text[2:-2].strip()
    return text


def parse_number(text: str) -> Fraction | None:
    r"""The exact value of a text that is one number, else None.

    Known: sign, thousands separators, decimals, exponents, `%` (hundredths), a currency sign, `a/b` and `\frac{a}{b}` of
    integers, and mixed numbers: `1 1/2` and `1\frac{1}{2}` are 3/2.

    Example:
        parse_number("1,000") == 1000; parse_number("204.0") == 204; parse_number("12%") == Fraction(3, 25)
        parse_number("20 June 1837") is None
    """
    if text.isascii() and text.isdigit() and len(text) <= _MAX_NUMBER_LENGTH:  # most references, at a tenth of the cost
        return Fraction(int(text))
    text = plain(text).lower()
    if not text or len(text) > _MAX_NUMBER_LENGTH:
        return None
    if m := _LATEX_FRACTION.fullmatch(text):
        return _quotient(int(m[1] + "1") * int(m[2] or m[3]), int(m[4] or m[5]))
    if m := _MIXED_NUMBER.fullmatch(text):
        part = _quotient(int(m[3] or m[5] or m[6]), int(m[4] or m[7] or m[8]))
        return None if part is None else int(m[1] + "1") * (int(m[2]) + part)
    text = text.strip(_CURRENCY).strip()
    percent = text.endswith("%")
    text = text.removesuffix("%").strip()
    for sign in "+-":  # "-$5" and "- 5"
        if text.startswith(sign):
            text = sign + text[1:].lstrip(_CURRENCY + " ")
    if m := _QUOTIENT.fullmatch(text):
        value = _quotient(int(m[1]), int(m[2]))
    elif _PLAIN_NUMBER.fullmatch(text):
        value = Fraction(text.replace(",", ""))
    else:
        return None
    return value / 100 if percent and value is not None else value


def normalize(text: str) -> str:
    """The normal form of words; numbers in it are exact (`1.50` is `3/2`), and an article alone stays."""
    words = [_normalize_word(word) for word in plain(text).lower().split()]
    words = [word for word in words if word]
    return " ".join([word for word in words if word not in ARTICLES] or words)


def is_mathematical(text: str) -> bool:
    """True when the text is a number, a list of numbers or a formula, which mathematics compares and not spelling.

    Words, dates and ranges of years are not: `Kelford`, `2020-01-05`, `1914-1918`, `3D`.
    """
    if parse_number(text) is not None:
        return True
    text = plain(text)
    if re.search(r"\\(?:[a-zA-Z]+|[{}])", text) or _NUMBER_LIST.fullmatch(text):
        return True
    if is_date(text):
        return False
    symbols = re.sub(r"sqrt|pi|sin|cos|tan|log|ln|exp", "", text.lower())
    has_operator = re.search(r"[-=+*/^√π()\[\]{}<>|]", symbols) is not None
    return (
        has_operator
        and re.fullmatch(r"[0-9a-z\s.,;:!=+*/^√π()\[\]{}<>|_-]+", symbols) is not None
        and not re.search("[a-z]{2}", symbols)
    )


def is_date(text: str) -> bool:
    """True for a date in numbers or a range of years; a number such as `1/2` is neither."""
    pattern = r"\d{1,4}\s*[-/.–]\s*\d{1,4}(\s*[-/.–]\s*\d{1,4})?"
    return re.fullmatch(pattern, text.strip()) is not None and parse_number(text) is None


def formula_spelling(text: str) -> str:
    r"""The formula without typesetting: blanks that separate nothing, `\left`, `\right`, and the size of fractions."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])", "", plain(text))
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    return re.sub(r"(?<![0-9a-zA-Z])\s+|\s+(?![0-9a-zA-Z])", "", text)


def _quotient(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if denominator else None


def _normalize_word(word: str) -> str:
    word = word.rstrip(".,;:!?\"'”’)]}").lstrip("\"'“‘([{#")
    if any(c.isdigit() for c in word) and (value := parse_number(word)) is not None:
        return str(value)
    word = word.replace("–", "-")
    return "".join(c for i, c in enumerate(word) if c not in _PUNCTUATION or _is_between_digits(word, i))


def _is_between_digits(word: str, index: int) -> bool:
    return 0 < index < len(word) - 1 and word[index - 1].isdigit() and word[index + 1].isdigit()
