"""Mathematics: the answer equals a reference as a formula."""

from collections.abc import Sequence

from arpo.rewards.formulas import Comparison, compare_formulas
from arpo.rewards.grading import Grade
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy


def grade_math(answer: str, references: Sequence[str], policy: GradingPolicy = DEFAULT_POLICY) -> Grade:
    r"""1 when the answer and a reference mean the same, else 0; words are compared as words.

    See `rewards.formulas`. An irrational number may be given as a decimal with six right decimals; a rational one is exact.

    The component `gave_up` is 1 where no verdict was reached within the limits; the score is then 0.

    Example:
        grade_math(r"\dfrac{1}{2}", ["0.5"]).score  # -> 1.0
        grade_math("-5", ["5"]).score  # -> 0.0
    """
    found = Comparison("different", "no reference")
    gave_up = False
    for reference in references:
        found = compare_formulas(answer, reference, policy)
        if found.is_equal:
            break
        gave_up = gave_up or found.verdict == "gave_up"
    return Grade(
        score=float(found.is_equal),
        components={"gave_up": float(gave_up and not found.is_equal)},
        reason=found.reason,
    )
