"""The reward of an environment."""

from math import fsum

from arpo.errors import EnvError
from arpo.rewards.config import RewardConfig
from arpo.tree import Trajectory
from arpo.types import Reward


class EnvironmentReward:
    """The rule `environment`: the sum of the environment's rewards for the turns of a trajectory.

    Components: the sums of the steps' metrics, by name.
    """

    def __init__(self, config: RewardConfig) -> None:
        pass

    def __call__(self, trajectory: Trajectory, /) -> Reward:
        """The reward; 0 where a limit truncated the trajectory before the environment gave one.

        Raises:
            EnvError: the environment ended the episode without any reward.

        Example:
            Turns rewarded with -0.1, nothing and 1.0: 0.9.
        """
        given = [node.step_reward for node in trajectory.completions if node.step_reward is not None]
        if not given and trajectory.leaf.is_done:
            raise EnvError(
                f"task {trajectory.task.id!r}: its environment ended the episode without giving a reward, which reward.rule = "
                f"'environment' sums up; give one with a step (Step.reward), or choose another rule"
            )
        return Reward(value=fsum(given), components=_sums(trajectory), reason=f"{len(given)} turns rewarded by the environment")


def _sums(trajectory: Trajectory) -> dict[str, float]:
    """The metrics of a trajectory's steps, added up by name."""
    sums: dict[str, float] = {}
    for node in trajectory.completions:
        for name, value in node.step_metrics.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums
