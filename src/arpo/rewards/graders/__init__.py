"""Graders by name: each reads a trajectory's answer and grades its text by the task's references."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from arpo.rewards.extraction import read_answer
from arpo.rewards.graders.exact_match import grade_exact_match
from arpo.rewards.graders.f1 import grade_f1
from arpo.rewards.graders.math import grade_math
from arpo.rewards.graders.multiple_choice import grade_multiple_choice
from arpo.rewards.graders.numeric import NumericGrader
from arpo.rewards.graders.released import (
    grade_released_acc,
    grade_released_em,
    grade_released_f1,
    grade_released_math_equal,
)
from arpo.rewards.graders.substring import grade_substring
from arpo.rewards.grading import Grade, GradeAnswer
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy
from arpo.tree import Trajectory


@dataclass(slots=True, frozen=True)
class AnswerGrader:
    """A grader of texts, applied to the answer of a trajectory."""

    grade_answer: GradeAnswer
    """Grades a text; also for tests, benchmarks and answers of other origin."""
    prefers_number: bool = False
    """Whether the answer of a text without box and phrase is its last number, not its last line."""

    def __call__(self, trajectory: Trajectory) -> Grade:
        """The grade of the trajectory's answer; 0 without one."""
        answer = read_answer(trajectory, prefers_number=self.prefers_number)
        if not answer.text:
            return Grade(score=0.0, reason="no answer", extraction=answer.extraction)
        return replace(self.grade_answer(answer.text, trajectory.task.references), extraction=answer.extraction)


GRADERS: Mapping[str, AnswerGrader] = {
    "exact_match": AnswerGrader(grade_exact_match),
    "f1": AnswerGrader(grade_f1),
    "substring": AnswerGrader(grade_substring),
    "numeric": AnswerGrader(NumericGrader(), prefers_number=True),
    "multiple_choice": AnswerGrader(grade_multiple_choice),
    "math": AnswerGrader(grade_math, prefers_number=True),
    "released_em": AnswerGrader(grade_released_em),
    "released_acc": AnswerGrader(grade_released_acc),
    "released_f1": AnswerGrader(grade_released_f1),
    "released_math_equal": AnswerGrader(grade_released_math_equal),
}
"""See docs/rewards.md."""

POLICED = ("exact_match", "f1", "numeric", "math")
"""Graders that a policy concerns."""


def find_grader(name: str, policy: GradingPolicy = DEFAULT_POLICY) -> AnswerGrader:
    """The grader of a name under a policy.

    Raises:
        KeyError: there is none of this name.
    """
    grader = GRADERS[name]
    if name not in POLICED or policy == DEFAULT_POLICY:
        return grader
    return replace(grader, grade_answer=partial(cast(Callable[..., Grade], grader.grade_answer), policy=policy))
