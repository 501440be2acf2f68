"""From a configuration to a reward function."""

import importlib
import math
from collections.abc import Callable, Mapping

from arpo.errors import ConfigError
from arpo.rewards.base import RewardFn
from arpo.rewards.composite import CompositeReward, match_answer
from arpo.rewards.config import RewardConfig
from arpo.rewards.environment import EnvironmentReward
from arpo.rewards.format import format_faults
from arpo.rewards.grading import Grader
from arpo.rewards.judge.judge import Judge
from arpo.rewards.released import ReleasedReward
from arpo.rewards.scoring import Scorer
from arpo.tree import Trajectory
from arpo.types import Reward

RULES: dict[str, Callable[[RewardConfig], RewardFn]] = {
    "arpo": CompositeReward, "arpo_released": ReleasedReward, "composite": CompositeReward, "environment": EnvironmentReward,
}  # fmt: skip


def build_reward(config: RewardConfig) -> RewardFn:
    """The reward function `config` names.

    Raises:
        ConfigError: your own function cannot be imported or is no function.
    """
    return RULES[config.rule](config) if config.rule in RULES else CustomReward(config.rule)


def build_scorer(
    config: RewardConfig, reward_fn: RewardFn | None = None, *, measures: Mapping[str, Grader] | None = None
) -> Scorer:
    """The scorer `config` names, with its judge where it has one.

    Args:
        config: The reward.
        reward_fn: Your own reward in place of the configured one.
        measures: As in `Scorer`.

    Raises:
        ConfigError: as `build_reward`; or there is a judge, but the reward is not made from a grade.
    """
    judge = Judge(config.judge) if config.judge is not None else None
    return Scorer(reward_fn or build_reward(config), judge=judge, measures=measures)


class CustomReward:
    """A user's function as a reward; `exact_match`, `f1` and `format` are measured beside what it returns."""

    def __init__(self, path: str) -> None:
        """Import `package.module:function`.

        Raises:
            ConfigError: there is no such module or function.
        """
        module, _, name = path.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"reward.rule = {path!r}: {error}; the module's folder must be on PYTHONPATH or its package installed"
            ) from error
        if not callable(function):
            raise ConfigError(f"reward.rule = {path!r} is a {type(function).__name__}; it must be a function of a Trajectory")
        self._path = path
        self._function: Callable[[Trajectory], object] = function

    def __call__(self, trajectory: Trajectory) -> Reward:
        """The function's reward, with the measured components added where it gives none of that name.

        Raises:
            ConfigError: the function returned neither a finite number nor a Reward with one.
        """
        given = self._function(trajectory)
        reward = Reward(value=float(given)) if isinstance(given, int | float) else given
        if not isinstance(reward, Reward) or not math.isfinite(reward.value):
            raise ConfigError(
                f"reward.rule = {self._path!r} returned {given!r} for task {trajectory.task.id}; "
                "it must return a finite number or a Reward with one"
            )
        found = match_answer(trajectory)
        measured = {"exact_match": found.exact_match, "f1": found.f1, "format": float(not format_faults(trajectory))}
        return Reward(value=reward.value, components={**measured, **reward.components}, reason=reward.reason)
