"""Matches an answer with a reference: exact match and token F1."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from arpo.rewards.answer_text import currencies, is_date, normalize, parse_number, plain
from arpo.rewards.formulas import compare_formulas, read_formula
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy

CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})
"""Answers without partial F1."""
_NUMBER_LIST = re.compile(r"[-+]?[\d./]+(?:\s*,\s*[-+]?[\d./]+)+")
_COMMAND = re.compile(r"\\(?!text|mathrm|mathbf|mbox|operatorname)(?:[a-zA-Z]+|[{}])")
_OPERATOR = re.compile(r"[-=+*/^√π()\[\]{}<>|≤≥±×·÷∞²³]")
_GROUPED = re.compile(r"[-+]?(?:\d{1,3}(?:[ ']\d{3})+(?:\.\d+)?|\d* ?[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])", re.ASCII)
_LETTERS = re.compile(r"[^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ₀₁₂₃₄₅₆₇₈₉½⅓⅔¼¾]+")
_NO_HYPHEN = re.compile(r"[+=*/^<>]| - ")
_FUNCTION = re.compile(
    r"(?<![a-zA-Z])(?:sqrt|arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln|exp|pi|infinity|oo|Rational)(?![a-zA-Z])"
)


@dataclass(slots=True, frozen=True)
class Match:
    """Match of an answer with the best of its references."""

    exact_match: float
    """1 when it equals one of them, else 0."""
    f1: float
    """Largest token F1 over them, in [0, 1]; 1 when `exact_match` is."""


def match(answer: str, references: Iterable[str]) -> Match:
    """The best match of an answer over its references."""
    references = tuple(references)
    return Match(
        exact_match=max((exact_match(answer, r) for r in references), default=0.0),
        f1=max((token_f1(answer, r) for r in references), default=0.0),
    )


@lru_cache(maxsize=10_000)
def is_mathematical(text: str) -> bool:
    """True when the text is a number, a list of numbers or a formula, so that mathematics and not spelling decides about it.

    Words, dates, ranges of years and quantities with units are not: `Kelford`, `2020-01-05`, `1914-1918`, `3D`, `UTC+3`.
    """
    if parse_number(text) is not None:
        return True
    has_command = _COMMAND.search(text) is not None
    text = plain(text)
    if _NUMBER_LIST.fullmatch(text):
        return True
    if _GROUPED.fullmatch(text):
        return True
    if (not has_command and _OPERATOR.search(text) is None) or is_date(text):
        return False
    tree = read_formula(text)
    if has_command or tree is None:
        return has_command
    if any(part.kind == "relation" and part.name == "=" for part in (tree, *tree.args)):
        return True
    runs = [run for run in _LETTERS.findall(_FUNCTION.sub(" ", text)) if len(run) > 1]
    longest = 3 if _NO_HYPHEN.search(text) else 2
    return all(len(run) <= longest and run.islower() for run in runs)


@lru_cache(maxsize=10_000)
def is_quantity(text: str) -> bool:
    """True for a number with a unit or a currency, and for several."""
    if not any(c.isdigit() for c in text):
        return False
    tree = read_formula(text)
    return tree is not None and all(part.kind == "quantity" for part in (tree.args if tree.kind == "group" else (tree,)))


def exact_match(answer: str, reference: str, policy: GradingPolicy = DEFAULT_POLICY) -> float:
    r"""1 when both mean the same, else 0.

    Two numbers are compared by value (`1,000` and `1000`, `0.5` and `\frac{1}{2}`, but not `12%` and `12`), two formulas by
    what they mean, anything else in normal form, so that dates stay strings. `policy` says what a unit, a percent sign or a
    base counts that one side alone names.
    """
    if plain(answer) == plain(reference):
        return 1.0
    if (is_mathematical(answer) and is_mathematical(reference)) or (is_quantity(answer) and is_quantity(reference)):
        return float(compare_formulas(answer, reference, policy).is_equal)
    return float(same_words(answer, reference, policy))


def same_words(answer: str, reference: str, policy: GradingPolicy = DEFAULT_POLICY) -> bool:
    """Whether two texts are equal in normal form, and name no two different currencies."""
    normal = normalize(answer)
    if not normal or normal != normalize(reference):
        return False
    first, second = currencies(answer), currencies(reference)
    return first == second or (policy == "lenient" and not (first and second))


def token_f1(answer: str, reference: str, policy: GradingPolicy = DEFAULT_POLICY) -> float:
    """Harmonic mean of precision and recall of the answer's words, as multisets in normal form.

    `2 * same / (words in answer + words in reference)`; 1 on an exact match; 0 between different numbers or formulas, and
    between different answers when one is yes, no or noanswer.

    Example:
        token_f1("the town of Kelford", "Kelford")  # words town, of, kelford against kelford: 2 * 1 / (3 + 1) = 0.5
    """
    if exact_match(answer, reference, policy):
        return 1.0
    if is_mathematical(answer) and is_mathematical(reference):
        return 0.0
    answer, reference = normalize(answer), normalize(reference)
    if answer in CLOSED_ANSWERS or reference in CLOSED_ANSWERS:
        return 0.0
    return word_f1(answer, reference)


def word_f1(answer: str, reference: str, *, as_released: bool = False) -> float:
    """Token F1 of two texts by their words as written, `2 * same / (words in answer + words in reference)`.

    `as_released` computes it from precision and recall, as the released code does: the last bit may differ.
    """
    words, reference_words = answer.split(), reference.split()
    same = sum((Counter(words) & Counter(reference_words)).values())
    if not same:
        return 0.0
    if not as_released:
        return 2 * same / (len(words) + len(reference_words))
    precision, recall = same / len(words), same / len(reference_words)
    return 2 * precision * recall / (precision + recall)
