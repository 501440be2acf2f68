r"""Whether two answers of mathematics are equal.

Both are read into trees (`rewards.mathematics`) and compared by what they mean: structure first, then scalars, exactly where
they are rational and else at points in high precision. Words among the formulas are compared as words. Integrals, sums and
limits that are not spelled alike go to math-verify in a worker with limits. What cannot be shown to be equal is different.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from arpo.rewards.answer_text import is_date, normalize
from arpo.rewards.mathematics.comparing import same_meaning
from arpo.rewards.mathematics.parser import read
from arpo.rewards.mathematics.prose import is_words, pieces, same_pieces, special_value, spelling
from arpo.rewards.mathematics.tokens import NotReadError, Token, clean, tokenize
from arpo.rewards.mathematics.tree import Node
from arpo.rewards.mathematics.values import LimitError
from arpo.rewards.maths import MAX_LENGTH, Verdict, compare
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy

_DECIMAL = re.compile(r"[-+]?\d{1,100}(?:\.\d{1,100})?", re.ASCII)
_LONG_WORD = re.compile(r"[^\W\d_]{4}")
_NO_WORDS = re.compile(r"[\d\\=+<>^*/|_{}()\[\]~%°!#@$€£¥]|(?:^|\W)-|-(?:\W|$)|\b\w-|-\w\b")
_LABEL = re.compile(r"\(?([A-J])\)?\s*[.:)]\s+(\S.*)", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Comparison:
    """What comparing two formulas gave."""

    verdict: Verdict
    reason: str
    """In a few words a person can read."""

    @property
    def is_equal(self) -> bool:
        """Whether they are equal for certain."""
        return self.verdict == "equal"


@dataclass(slots=True, frozen=True)
class _Text:
    """A text as it was read."""

    text: str
    tokens: tuple[Token, ...] | None
    """None where it has a character or command of no known meaning."""
    tree: Node | None
    """None where it is no formula."""


def compare_formulas(answer: str, reference: str, policy: GradingPolicy = DEFAULT_POLICY) -> Comparison:
    r"""How an answer compares with a reference.

    Which is which matters only for what `policy` lets an answer leave out.

    Example:
        compare_formulas(r"\dfrac{1}{2}", "0.5").is_equal  # -> True, by value
        compare_formulas("(1,2]", "(1,2)").reason  # -> "different meaning"
    """
    if _DECIMAL.fullmatch(answer) and _DECIMAL.fullmatch(reference):
        is_equal = Fraction(answer) == Fraction(reference)
        return Comparison("equal", "same value") if is_equal else Comparison("different", "value differs")
    if answer.strip() == reference.strip():
        return Comparison("equal", "same spelling") if answer.strip() else Comparison("unread", "empty")
    if max(len(answer), len(reference)) > MAX_LENGTH:
        return Comparison("too_long", "too long for a formula")
    first, second = _read(answer), _read(reference)
    if is_date(first.text) or is_date(second.text):
        return _known(first.text == second.text, "date")
    found = _compare(first, second, policy)
    return found if found.is_equal else _compare_options(first, second, policy) or found


def _compare_options(answer: _Text, reference: _Text, policy: GradingPolicy) -> Comparison | None:
    """The verdict where the reference is an option with its letter, as `C. 13`, or both are; None where that says nothing."""
    option, given = _LABEL.fullmatch(reference.text), _LABEL.fullmatch(answer.text)
    if option is None:
        return None
    if given is not None:
        is_equal = given[1] == option[1] and _compare(_read(given[2]), _read(option[2]), policy).is_equal
    else:
        is_equal = policy == "lenient" and (
            answer.text.strip("().") == option[1] or _compare(answer, _read(option[2]), policy).is_equal
        )
    return Comparison("equal", "the same option") if is_equal else None


def read_formula(text: str) -> Node | None:
    """The tree of a text; None where it is words or no formula."""
    return _read(text).tree


def _read(text: str, *, groups_digits: bool = True) -> _Text:
    text = clean(text)
    try:
        tokens = tuple(tokenize(text, groups_digits=groups_digits))
    except (NotReadError, RecursionError):
        return _Text(text, None, None)
    return _Text(text, tokens, special_value(tokens) if is_words(tokens) else read(tokens))


def _compare(a: _Text, b: _Text, policy: GradingPolicy) -> Comparison:
    if a.tokens is None or b.tokens is None:
        return _known(a.text == b.text and a.text != "", "spelling")
    if not a.text or not b.text:
        return Comparison("unread", "empty")
    if spelling(a.tokens) == spelling(b.tokens):
        return Comparison("equal", "same spelling")
    if _is_sentence(a.text) and _is_sentence(b.text):
        return _known(normalize(a.text) == normalize(b.text), "words")
    try:
        return _compare_meaning(a, b, policy)
    except LimitError:
        return Comparison("gave_up", "no verdict within the limits of time and memory")
    except RecursionError:
        return Comparison("too_long", "nested too deeply")


def _is_sentence(text: str) -> bool:
    """Whether a text is words and their punctuation alone, one of four letters or more among them."""
    return _LONG_WORD.search(text) is not None and _NO_WORDS.search(text) is None


def _compare_meaning(a: _Text, b: _Text, policy: GradingPolicy) -> Comparison:
    assert a.tokens is not None
    assert b.tokens is not None
    if a.tree is None or b.tree is None:
        same = partial(same_meaning, policy="strict")  # in a sentence nothing is left out
        return _known(same_pieces(pieces(a.tokens), pieces(b.tokens), same), "text")
    if same_meaning(a.tree, b.tree, policy):
        return Comparison("equal", "same meaning")
    for first, second in ((_ungrouped(a), b), (a, _ungrouped(b))):
        if (first is not a or second is not b) and first.tree and second.tree and same_meaning(first.tree, second.tree, policy):
            return Comparison("equal", "same meaning")
    if a.tree.find("opaque") or b.tree.find("opaque"):
        verdict = compare(*sorted((a.text, b.text)))  # in one order, so that the cache knows both
        return Comparison(verdict, _BY_ALGEBRA[verdict])
    return Comparison("different", "different meaning")


def _ungrouped(read_text: _Text) -> _Text:
    """The text with its commas read as separators, where they may be either: `100,200`."""
    return _read(read_text.text, groups_digits=False) if re.search(r"\d,\d{3}", read_text.text) else read_text


def _known(is_equal: bool, what: str) -> Comparison:
    return Comparison("equal", f"same {what}") if is_equal else Comparison("different", f"{what} differs")


_BY_ALGEBRA: dict[Verdict, str] = {
    "equal": "equal by algebra",
    "different": "different by algebra",
    "unread": "not read as a formula",
    "too_long": "too long for a formula",
    "gave_up": "no verdict within the limits of time and memory",
}
