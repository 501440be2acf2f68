r"""The papers' reward: format first, then the grade, then a bonus for using several tools.

| trajectory | reward |
|---|---|
| a format fault (`rewards.format`) | -1 |
| well formed, F1 = 0 | 0 |
| well formed, F1 > 0 | F1 |
| well formed, F1 > 0, two or more different tools gave a result | F1 + bonus |

Source: ARPO section 3, after Tool-Star: `R = max(Acc + r_M, Acc)` if the format is good and `Acc > 0`, 0 if it is good and
`Acc = 0`, -1 otherwise, with `r_M = 0.1` when search and Python are both used. What the released code does otherwise, and
`rewards.released` keeps, is in docs/rewards.md. The rule `composite` is the same with terms of your choice.
"""

from arpo.rewards.config import CompositeConfig, RewardConfig
from arpo.rewards.format import format_faults
from arpo.rewards.graders import find_grader
from arpo.rewards.grading import Grade, Grader
from arpo.rewards.measure import match_answer
from arpo.tree import Trajectory
from arpo.types import Reward


class CompositeReward:
    """The rules `arpo` and `composite`: format first, then a grade, a bonus, and costs.

        format fault        -1, unless the gate is off
        otherwise           max(0, weight * grade + bonus - length_cost * tokens / 1000 - tool_cost * calls) where grade > 0
                            0 where grade = 0

    Bonus and costs apply only to answers that earn something: all wrong answers have the same reward, so costs never teach to
    give up early, and a right answer is never below a wrong one.

    The grade says whether the answer is right; under the rule `arpo`, whose grade is F1, an exact match in the box does.

    Components: `grade` (the grade's score), `exact_match` and `f1` of the boxed answer (also with a bad format, if there is a
    box), `format` (1 well formed, 0 not), `multi_tool_bonus` (as added), `length_cost` and `tool_cost` (as subtracted, before
    the floor of 0) where they are on, and those of the grader.
    """

    def __init__(self, config: RewardConfig) -> None:
        self._terms = config.composite or CompositeConfig(grader="f1", multi_tool_bonus=config.multi_tool_bonus)
        self._grader = find_grader(self._terms.grader, self._terms.grading)
        self._wants_exact_box = config.composite is None

    @property
    def grader(self) -> Grader:
        """Grades the answer where no judge does."""
        return self._grader

    def __call__(self, trajectory: Trajectory, grade: Grade | None = None, /) -> Reward:
        """The reward, its components and the reason; `grade` replaces the grader's."""
        terms, faults, match = self._terms, format_faults(trajectory), match_answer(trajectory)
        is_exact_box_right = grade is None and self._wants_exact_box
        grade = grade or self._grader(trajectory)
        is_gated = bool(faults) and terms.format_gate
        earns = grade.score > 0 and not is_gated
        bonus = terms.multi_tool_bonus if earns and len(successful_tools(trajectory)) > 1 else 0.0
        costs = self._costs(trajectory) if earns else dict.fromkeys(self._costs(trajectory), 0.0)
        value = max(0.0, terms.grade_weight * grade.score + bonus - sum(costs.values())) if earns else 0.0
        read = "" if grade.extraction in ("boxed", "given", "none") else f" (answer found as {grade.extraction})"
        measured = {
            "exact_match": match.exact_match, "f1": match.f1, "format": float(not faults), "multi_tool_bonus": bonus,
        }  # fmt: skip
        return Reward(
            value=-1.0 if is_gated else value,
            is_correct=match.exact_match == 1.0 if is_exact_box_right else grade.is_correct,
            components={**grade.components, "grade": grade.score, **measured, **costs},
            reason="format: " + ", ".join(faults) if is_gated else grade.reason + read,
        )

    def _costs(self, trajectory: Trajectory) -> dict[str, float]:
        terms, costs = self._terms, dict[str, float]()
        if terms.length_cost:
            costs["length_cost"] = terms.length_cost * max(0, trajectory.num_sampled_tokens - terms.free_tokens) / 1000
        if terms.tool_cost:
            costs["tool_cost"] = terms.tool_cost * len(trajectory.tool_results)
        return costs


def successful_tools(trajectory: Trajectory) -> set[str]:
    """Names of the tools with at least one successful call on the path."""
    return {call.name for call, result in trajectory.tool_calls if result.status == "success"}
