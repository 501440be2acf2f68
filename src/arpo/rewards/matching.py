"""Matches an answer with a reference: exact match and token F1."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from arpo.rewards.answer_text import is_mathematical, normalize, plain
from arpo.rewards.formulas import compare_formulas

CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})
"""Answers without partial F1."""


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


def exact_match(answer: str, reference: str) -> float:
    r"""1 when both mean the same, else 0.

    Two numbers are compared by value (`1,000` and `1000`, `0.5` and `\frac{1}{2}`, but not `12%` and `12`), two formulas by
    algebra, anything else in normal form, so that dates stay strings.
    """
    if plain(answer) == plain(reference):
        return 1.0
    if is_mathematical(answer) and is_mathematical(reference):
        return float(compare_formulas(answer, reference).is_equal)
    normal = normalize(answer)
    return float(normal != "" and normal == normalize(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the answer's words, as multisets in normal form.

    `2 * same / (words in answer + words in reference)`; 1 on an exact match; 0 between different numbers or formulas, and
    between different answers when one is yes, no or noanswer.

    Example:
        token_f1("the town of Kelford", "Kelford")  # words town, of, kelford against kelford: 2 * 1 / (3 + 1) = 0.5
    """
    if exact_match(answer, reference):
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
