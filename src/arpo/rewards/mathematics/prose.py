"""Words with formulas among them: the words must be the same words, and the formulas equal formulas."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arpo.rewards.mathematics.names import PROSE
from arpo.rewards.mathematics.parser import read
from arpo.rewards.mathematics.tokens import Token
from arpo.rewards.mathematics.tree import EMPTY_SET, REAL_NUMBERS, Node

_END = Token("end", "")
_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = frozenset([*",.;:!?'\"`。、，；：", "&&"])
_NO_SOLUTION = re.compile(r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exists?)?|(?:the )?empty set")


@dataclass(slots=True, frozen=True)
class Piece:
    """A word, or a formula between words."""

    word: str
    """In lower case; empty for a formula."""
    tokens: tuple[Token, ...] = ()
    """Of a formula, without an end; empty for a word."""


def is_words(tokens: Sequence[Token]) -> bool:
    """Whether tokens are words alone; two or three small letters are a product."""
    letters = [t for t in tokens if t.kind in ("letters", "word", "symbol") and t.text.isalpha()]
    inside = [t for t in tokens if t.kind != "end"]
    if len(letters) != len(inside) or not any(t.kind in ("letters", "word") for t in letters):
        return False
    text = "".join(t.text for t in letters)
    return any(t.is_set or t.kind == "word" for t in letters) or len(text) > 3 or not text.islower()


def spelling(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """What the tokens are, without braces around one of them."""
    keys = [t.key for t in tokens]
    brace, close = ("operator", "{"), ("operator", "}")
    found = list[tuple[str, str]]()
    for index, key in enumerate(keys):
        is_open = key == brace and keys[index + 2 : index + 3] == [close] and keys[index + 1] not in (brace, close)
        is_close = key == close and index > 1 and keys[index - 2] == brace and keys[index - 1] not in (brace, close)
        if not is_open and not is_close:
            found.append(key)
    return found


def special_value(tokens: Sequence[Token]) -> Node | None:
    """The tree of words that say what a sign says: "no solution" is the empty set; None for any other words."""
    text = " ".join(t.text.lower() for t in tokens if t.kind != "end")
    if text in ("all real numbers", "all reals"):
        return REAL_NUMBERS
    return EMPTY_SET if _NO_SOLUTION.fullmatch(text) else None


def pieces(tokens: Sequence[Token]) -> list[Piece]:
    """The words and formulas of a text, without articles and punctuation."""
    found, formula = list[Piece](), list[Token]()
    inside = [t for t in tokens if t.kind != "end"]
    for index, token in enumerate(inside):
        around = inside[index - 1 : index] + inside[index + 1 : index + 2]
        if _is_word(token, around) or _is_article(token, inside[index - 1 : index], inside[index + 1 : index + 2]):
            found += _formula(formula)
            formula = []
            if token.text.lower() not in _ARTICLES:
                found.append(Piece(_folded(token.text)))
        else:
            formula.append(token)
    return found + _formula(formula)


def same_pieces(a: list[Piece], b: list[Piece], same: Callable[[Node, Node], bool]) -> bool:
    """Whether two texts have the same words and equal formulas in one order."""
    return len(a) == len(b) and bool(a) and all(_same(x, y, same) for x, y in zip(a, b, strict=True))


def _same(a: Piece, b: Piece, same: Callable[[Node, Node], bool]) -> bool:
    if a.word or b.word:
        return a.word == b.word
    if spelling(a.tokens) == spelling(b.tokens):
        return True
    trees = read((*a.tokens, _END)), read((*b.tokens, _END))
    return trees[0] is not None and trees[1] is not None and same(trees[0], trees[1])


def _is_word(token: Token, around: list[Token]) -> bool:
    if token.kind == "word":
        return True
    if token.kind != "letters":
        return False
    return not any(t.kind == "operator" and t.text not in _PUNCTUATION | {"(", ")"} for t in around)


def _is_article(token: Token, before: list[Token], after: list[Token]) -> bool:
    is_before_word = any(t.kind in ("word", "letters") and t.is_spaced for t in after)
    is_after_operator = any(t.kind == "operator" and t.text not in _PUNCTUATION for t in before)
    return token.text in ("a", "A") and token.kind == "symbol" and is_before_word and not is_after_operator and (
        token.text == "a" or not before
    )  # fmt: skip


def _folded(word: str) -> str:
    return word if len(word) == 2 and word.lower() not in PROSE else word.casefold()


def _formula(tokens: list[Token]) -> list[Piece]:
    while tokens and tokens[-1].text in _PUNCTUATION:
        tokens = tokens[:-1]
    while tokens and tokens[0].text in _PUNCTUATION:
        tokens = tokens[1:]
    return [Piece("", tuple(tokens))] if tokens else []
