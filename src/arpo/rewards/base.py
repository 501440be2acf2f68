"""What a reward is: a pure function of a trajectory."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from arpo.rewards.grading import Grade, Grader
from arpo.tree import Trajectory
from arpo.types import Reward


class RewardFn(Protocol):
    """Scores one finished trajectory from its task's references and its nodes' parses."""

    def __call__(self, trajectory: Trajectory, /) -> Reward | float | Mapping[str, float] | None:
        """The reward, which `rewards.measure.complete_reward` completes; None: ungraded.

        It is a number, a Reward, or components by name, whose sum is the reward.
        """
        ...


@runtime_checkable
class GradedRewardFn(Protocol):
    """A reward made from a grade of the answer, which a judge may give."""

    @property
    def grader(self) -> Grader:
        """Grades the answer where no judge does."""
        ...

    def __call__(self, trajectory: Trajectory, grade: Grade | None = None, /) -> Reward | float:
        """The reward; `grade` None: that of `grader`."""
        ...
