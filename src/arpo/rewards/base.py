"""What a reward is: a pure function of a trajectory."""

from typing import Protocol

from arpo.tree import Trajectory
from arpo.types import Reward


class RewardFn(Protocol):
    """Scores one finished trajectory from its task's references and its nodes' parses."""

    def __call__(self, trajectory: Trajectory) -> Reward:
        """The reward, its components and the reason."""
        ...
