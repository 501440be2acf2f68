"""Exact match: the answer means the same as a reference."""

from collections.abc import Sequence

from arpo.rewards.grading import Grade
from arpo.rewards.matching import exact_match
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy


def grade_exact_match(answer: str, references: Sequence[str], policy: GradingPolicy = DEFAULT_POLICY) -> Grade:
    r"""1 when the answer means the same as a reference (numbers by value, formulas by algebra, words in normal form), else 0.

    Example:
        grade_exact_match("The Beatles.", ["Beatles"]).score  # -> 1.0
        grade_exact_match("-5", ["5"]).score  # -> 0.0; SQuAD's normal form drops the sign
    """
    equal = next((r for r in references if exact_match(answer, r, policy)), None)
    return Grade(score=float(equal is not None), reason=f"equals {equal!r}" if equal is not None else "equals no reference")
