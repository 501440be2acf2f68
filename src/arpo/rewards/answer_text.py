r"""Reading an answer: the box, numbers, and a normal form for words in which nothing that carries meaning is lost.

The normal form follows SQuAD's (lower case, no punctuation, no articles, single spaces) after Unicode's forms are unified
(`rewards.spelling`), and leaves out what that destroys:

| text | SQuAD's | here |
|---|---|---|
| `-5` | `5` | `-5` |
| `1.2` | `12` | `6/5` |
| `1/2` | `12` | `1/2` |
| `(1,2)` | `12` | `1,2` |
| `12%` | `12` | `3/25` |
| `1,000` | `1000` | `1000` |
| `A` | (nothing) | `a` |
| `Hepatitis A` | `hepatitis` | `hepatitis a` |
| `C++`, `O-`, `UTC-3` | `c`, `o`, `utc3` | `c++`, `o-`, `utc-3` |
| `\text{Paris}` | `textparis` | `paris` |
| `2020-01-05` | `20200105` | `2020-01-05` |
"""

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from arpo.rewards.spelling import unify

ARTICLES = frozenset({"a", "an", "the"})
_MAX_NUMBER_LENGTH = 100
_MAX_NESTING = 4

_PLAIN_NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:e[-+]?\d{1,2})?", re.ASCII)
_QUOTIENT = re.compile(r"([-+]?\d+)/([-+]?\d+)", re.ASCII)
_LATEX_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_MIXED_NUMBER = re.compile(r"([-+]?)(\d+)(?:\s+(\d+)/(\d+)|\s*\\[dt]?frac\s*(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d)))", re.ASCII)
_MATH_MODE = {(r"\(", r"\)"), (r"\[", r"\]")}
_CURRENCY = "$€£¥"
_KEPT_PUNCTUATION = frozenset("#%/@*+<>=^|")
_DROPPED_SYMBOLS = frozenset("`~©®™")
_EMPHASIS = re.compile(r"(\*\*|__|(?<![\w*])\*(?=\S)|(?<!\w)_(?=\S)|`)(\S(?:.*?\S)?)\1(?!\w)")
_BEHIND_NUMBER = re.compile(r"(?<=\d)\s+(?=[%°\u3040-\u30ff\u4e00-\u9fff])")
_RANGE = re.compile(r"(?<=\d)\s*-\s+(?=\d)|(?<=\d)\s+-(?=\s*\d)")
_LIST_COMMA = re.compile(r"(?<=[^\W\d_]),(?=[^\W\d_])")
_DATE = re.compile(r"\d{1,4}(?:-\d{1,4}|([-/.])\d{1,2}\1\d{1,4}|/\d{1,4})", re.ASCII)


def extract_boxed(text: str) -> str | None:
    r"""The content of the last whole `\boxed{...}`, its braces balanced and `\{` counted as a character; None without one.

    Example:
        extract_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}")  # -> r"\frac{1}{2}"
    """
    boxes = _boxes(text)
    return boxes[-1][2] if boxes else None


def boxed_answer(text: str) -> str | None:
    r"""What the last boxes say: several with nothing but `,`, `and` or `or` between them are one list; None without a box.

    Example:
        boxed_answer(r"they are \boxed{2} and \boxed{3}")  # -> "2, 3"
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    answer, begin = boxes[-1][2], boxes[-1][0]
    for first, end, content in reversed(boxes[:-1]):
        if not _JOINT.fullmatch(text[end:begin]):
            break
        answer, begin = f"{content}, {answer}", first
    return answer


_JOINT = re.compile(r"[\s$]*(?:,|;|&|\\text\{\s*(?:and|or)\s*\})?[\s$]*(?:and|or)?[\s$]*")


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Begin, end and content of every whole box, in order."""
    found = list[tuple[int, int, str]]()
    for start in re.finditer(r"\\boxed\s*\{", text):
        depth = 1
        for token in re.finditer(r"\\.|[{}]", text[start.end() :], re.DOTALL):
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if depth == 0:
                end = start.end() + token.start()
                found.append((start.start(), end + 1, text[start.end() : end].strip()))
                break
    return found


def plain(text: str) -> str:
    r"""The text in one spelling without what only sets type: `\text{...}`, `$...$` around it, `\%`, thin spaces."""
    text = unify(text)
    if "\\" in text:
        for _ in range(_MAX_NESTING):
            text = _LATEX_TEXT.sub(r"\1", text)
        text = re.sub(r"\\([%$&#_])", r"\1", text)
        text = re.sub(r"\\[,;!:]|\{,\}", lambda m: "," if m[0] == "{,}" else "", text)
        text = re.sub(r"\\ (?!\\)|~", " ", text)
    text = text.replace("{,}", ",").strip()
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    if len(text) > 4 and (text[:2], text[-2:]) in _MATH_MODE:
        text = text[2:-2].strip()
    return text


def parse_number(text: str) -> Fraction | None:
    r"""The exact value of a text that is one number, None for any other.

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
    """The form words are compared in.

    Numbers in it are exact (`1.50` is `3/2`); signs and operators stay; an article is dropped where words follow it, so that
    `Hepatitis A` keeps its letter.
    """
    text = _BEHIND_NUMBER.sub("", plain(text))
    text = _LIST_COMMA.sub(", ", _RANGE.sub("-", _EMPHASIS.sub(r"\2", text)))
    words = [(word, _normalize_word(word)) for word in text.split()]
    words = [pair for pair in words if pair[1]]
    last = max((i for i, (_, word) in enumerate(words) if word not in ARTICLES), default=-1)
    kept = [word for i, (_, word) in enumerate(words) if not (i < last and word in ARTICLES and _is_article(words, i))]
    return " ".join(word for i, word in enumerate(kept) if word != "-" or _stands_alone(kept, i))


def currencies(text: str) -> frozenset[str]:
    """The currency signs in a text, without dollar signs that set mathematics."""
    text = plain(text)
    signs = {c for c in text if unicodedata.category(c) == "Sc"} if any(c in text for c in "$€£¥₹₽₩₺") else set[str]()
    return frozenset(signs - ({"$"} if text.count("$") % 2 == 0 else set[str]()))


def is_date(text: str) -> bool:
    """True for a date in numbers and a range of years; a number, as `1/2`, is neither."""
    return _DATE.fullmatch(unify(text).strip()) is not None and parse_number(text) is None


def _is_article(words: Sequence[tuple[str, str]], index: int) -> bool:
    """Not so for a capital A among small words, a letter: `Vitamin A deficiency`."""
    if not words[index][0].startswith("A") or words[index][1] != "a" or index == 0:
        return True
    return words[index + 1][0][:1].isupper() or words[index - 1][0].endswith((".", "!", "?", ":"))


def _stands_alone(words: list[str], index: int) -> bool:
    """Whether a lone `-` is a sign or an operator and no dash between words."""
    around = words[index - 1 : index] + words[index + 1 : index + 2] if index else []
    return len(words) == 1 or any(any(not c.isalpha() for c in word) or len(word) == 1 for word in around)


def _quotient(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if denominator else None


@lru_cache(maxsize=20_000)
def _normalize_word(word: str) -> str:
    if word.isascii() and word.isalpha():
        return word.lower()
    word = word.lower().rstrip(".,;:!?\"')]}。、，").lstrip("\"'([{")
    if any(c.isdigit() for c in word) and (value := parse_number(word)) is not None:
        return str(value)
    return "".join(c for i, c in enumerate(word) if _has_meaning(word, i))


def _has_meaning(word: str, index: int) -> bool:
    character = word[index]
    if character.isalnum():
        return True
    before, after = word[index - 1 : index] if index else "", word[index + 1 : index + 2]
    if before.isdigit() and after.isdigit():
        return True
    if character == "-":
        return not (before.isalpha() and after.isalpha() and _is_hyphen(word, index))
    if character == "*":
        return not (before.isalpha() and after.isalpha())
    if character == "_":
        return before.isalnum() and after.isalnum()
    if character in _KEPT_PUNCTUATION:
        return True
    return character not in _DROPPED_SYMBOLS and _is_kept(character)


def _is_kept(character: str) -> bool:
    """Not so for punctuation of any script, blanks, and currency signs, which `currencies` compares."""
    category = unicodedata.category(character)
    return category[0] not in "PZC" and category != "Sc"


def _is_hyphen(word: str, index: int) -> bool:
    """Whether one side is as long as a word; `ad-bc` is a difference."""
    left, right = re.split(r"[\W\d_]", word[:index])[-1], re.split(r"[\W\d_]", word[index + 1 :])[0]
    return max(len(left), len(right)) > 3
