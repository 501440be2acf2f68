r"""Compares formulas: simple pairs by spelling and value, the others by math-verify.

This module decides pairs that math-verify gets wrong or that take it a hundred times as long:

| pair | math-verify | here |
|---|---|---|
| `12%` and `12` | equal | different: 0.12 is not 12 |
| `(1,2)` and `\{1,2\}` | equal | different: a pair and a set |
| `0.333333` and `\frac{1}{3}` | equal | different: numbers have exact values |
| `1010_2` and `1010`, `1010_2` and `1010_3` | equal | different: the base is part of the number |
| `5\text{ cm}` and `5\text{ m}` | equal | different: a length in units |
| `x + 1 = 3` and `3` | equal | different: only `name = value` says the value |
| `east` and `seat` | equal | different: words are no products of letters |
"""

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Literal

from arpo.rewards.answer_text import formula_spelling, parse_number, plain
from arpo.rewards.maths import Verdict, compare

_OPEN, _CLOSE = "([{", ")]}"
_BASE = re.compile(r"([0-9A-Fa-f]+)_\{?(?:\\text\{)?(\d+|two|three|eight|ten|sixteen)\}*", re.ASCII)
_NAME = re.compile(r"\\?[a-zA-Z]+(?:_\{?\w+\}?)?'?(?:\([^()=]*\))?")
_RELATION = re.compile(r"[<>]|\\(?:leq?|geq?|neq?|l[te]|g[te]|in|to|implies)(?![a-zA-Z])|!=|==")


@dataclass(slots=True, frozen=True)
class Comparison:
    """The result of a comparison of two formulas."""

    verdict: Verdict
    reason: str
    """A few words for people."""

    @property
    def is_equal(self) -> bool:
        """Whether they are certainly equal."""
        return self.verdict == "equal"


Brackets = Literal["", "()", "[]", "(]", "[)", "{}"]


@dataclass(slots=True, frozen=True)
class _Listing:
    """Items with commas between them."""

    brackets: Brackets
    """Empty for a bare list, whose order does not count, as in a set."""
    items: tuple[str, ...]

    @property
    def numbers(self) -> tuple[Fraction, ...] | None:
        """Values of the items; None when one is no number."""
        values = [parse_number(item) for item in self.items]
        return None if None in values else tuple(v for v in values if v is not None)


def compare_formulas(answer: str, reference: str) -> Comparison:
    r"""The comparison of two formulas, in either order.

    Example:
        compare_formulas(r"\dfrac{1}{2}", "0.5").is_equal  # -> True, by value
        compare_formulas("(1,2]", "(1,2)").reason  # -> "brackets differ"
    """
    spelling = formula_spelling(answer), formula_spelling(reference)
    if spelling[0] == spelling[1]:
        return Comparison("equal", "same spelling") if spelling[0] else Comparison("unread", "empty")
    numbers = parse_number(answer), parse_number(reference)
    if numbers[0] is not None and numbers[1] is not None:
        return _known(numbers[0] == numbers[1], "value")
    if comparison := _compare_listings(_listing(spelling[0]), _listing(spelling[1])) or _guard(*spelling):
        return comparison
    verdict = compare(*sorted((plain(answer), plain(reference))))  # sorted, so that both orders share a cache entry
    return Comparison(verdict, _BY_ALGEBRA[verdict])


_BY_ALGEBRA: dict[Verdict, str] = {
    "equal": "equal by algebra",
    "different": "different by algebra",
    "unread": "not read as a formula",
    "too_long": "too long for a formula",
    "gave_up": "no verdict within the limits of time and memory",
}


def _known(is_equal: bool, what: str) -> Comparison:
    return Comparison("equal", f"same {what}") if is_equal else Comparison("different", f"{what} differs")


def _guard(answer: str, reference: str) -> Comparison | None:
    """The verdict where math-verify would be wrong; None where it may decide."""
    if ("%" in answer) != ("%" in reference):
        return Comparison("different", "one is a percentage")
    based = _in_base(answer), _in_base(reference)
    if based != (None, None):
        return _known(based[0] == based[1], "number with its base") if all(based) else Comparison("different", "base differs")
    if _is_condition(answer) != _is_condition(reference):
        return Comparison("different", "one is an equation to be solved")
    return None


def _in_base(text: str) -> tuple[str, str] | None:
    """Digits and base of a number such as `1010_2`; None for any other text."""
    names = {"two": "2", "three": "3", "eight": "8", "ten": "10", "sixteen": "16"}
    match = _BASE.fullmatch(text)
    return (match[1].lower().lstrip("0"), names.get(match[2], match[2])) if match else None


def _is_condition(text: str) -> bool:
    """Whether it is an equation without the name of a value; `x = 3` and `f(x) = 2x` have one."""
    left, equals, right = text.partition("=")
    is_equation = equals != "" and "=" not in right and "," not in text and not _RELATION.search(text)
    return is_equation and not _NAME.fullmatch(left) and not _NAME.fullmatch(right)


def _compare_listings(answer: _Listing | None, reference: _Listing | None) -> Comparison | None:
    """The verdict on two listings; None when one is none, or algebra has to compare the items."""
    if answer is None or reference is None:
        return None
    if {answer.brackets, reference.brackets} not in _SAME_KIND and answer.brackets != reference.brackets:
        return Comparison("different", "brackets differ")
    is_set = "{}" in (answer.brackets, reference.brackets)
    values = answer.numbers, reference.numbers
    if values[0] is None or values[1] is None:
        is_same_size = is_set or len(answer.items) == len(reference.items)
        return None if is_same_size else Comparison("different", "number of items differs")
    if is_set:
        return _known(set(values[0]) == set(values[1]), "set")
    if answer.brackets == reference.brackets == "":
        return _known(Counter(values[0]) == Counter(values[1]), "list")
    return _known(values[0] == values[1], "sequence")


_SAME_KIND: tuple[set[str], ...] = ({"", "()"}, {"", "{}"})
"""A bare list may mean a tuple or a set."""


def _listing(spelling: str) -> _Listing | None:
    """The items of a formula with commas and at most one pair of brackets around all; None for any other."""
    text = re.sub(r"\\([{}])", r"\1", re.sub(r"\\[lr]brace(?![a-zA-Z])", lambda m: "{" if m[0][1] == "l" else "}", spelling))
    _, equals, value = text.partition("=") if _NAME.match(text) else ("", "", "")
    if equals and _NAME.fullmatch(text.partition("=")[0]) and value[:1] in set(_OPEN):
        text = value  # "S = {1, 2}"
    brackets: Brackets = ""
    if text[:1] in set(_OPEN) and text[-1:] in set(_CLOSE) and _closes_last(text):
        brackets, text = _BRACKETS.get(text[0] + text[-1], ""), text[1:-1]
        if not brackets:
            return None
    items = _split_at_commas(text)
    return _Listing(brackets, items) if items is not None and len(items) > 1 else None


_BRACKETS: dict[str, Brackets] = {"()": "()", "[]": "[]", "(]": "(]", "[)": "[)", "{}": "{}"}


def _closes_last(text: str) -> bool:
    """Whether the last character closes the first bracket; the brackets of an interval may differ."""
    depths = _depths(text)
    return 0 in depths and depths.index(0) == len(text) - 1


def _split_at_commas(text: str) -> tuple[str, ...] | None:
    """The items between commas outside brackets; None where brackets do not pair."""
    depths = _depths(text)
    if min(depths, default=0) < 0 or depths[-1:] not in ([], [0]):
        return None
    cuts = [i for i, depth in enumerate(depths) if depth == 0 and text[i] in ",;"]
    return tuple(text[before + 1 : cut] for before, cut in pairwise([-1, *cuts, len(text)]))


def _depths(text: str) -> list[int]:
    """Number of open brackets after each character."""
    return [*accumulate((character in _OPEN) - (character in _CLOSE) for character in text)]
