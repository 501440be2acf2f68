"""Builds reward function and scorer from a configuration."""

import importlib
from collections.abc import Callable, Mapping
from typing import cast

from arpo.errors import ConfigError
from arpo.rewards.base import RewardFn
from arpo.rewards.composite import CompositeReward
from arpo.rewards.config import RewardConfig
from arpo.rewards.environment import EnvironmentReward
from arpo.rewards.grading import Grader
from arpo.rewards.judge.judge import Judge
from arpo.rewards.measure import describe_error
from arpo.rewards.released import ReleasedReward
from arpo.rewards.scoring import Scorer

RULES: dict[str, Callable[[RewardConfig], RewardFn]] = {
    "arpo": CompositeReward, "arpo_released": ReleasedReward, "composite": CompositeReward, "environment": EnvironmentReward,
}  # fmt: skip


def build_reward(config: RewardConfig) -> RewardFn:
    """The reward function `config` names.

    Raises:
        ConfigError: your own function cannot be imported or is no function.
    """
    return RULES[config.rule](config) if config.rule in RULES else _import_function(config.rule)


def build_scorer(
    config: RewardConfig, reward_fn: RewardFn | None = None, *, measures: Mapping[str, Grader] | None = None
) -> Scorer:
    """The scorer `config` names, with its judge where it has one.

    Args:
        config: The reward.
        reward_fn: Your own reward in place of the configured one.
        measures: As in `Scorer`.

    Raises:
        ConfigError: as `build_reward`; or there is a judge, but the reward uses no grade.
    """
    judge = Judge(config.judge) if config.judge is not None else None
    return Scorer(reward_fn or build_reward(config), judge=judge, measures=measures)


def _import_function(path: str) -> RewardFn:
    """The function `package.module:function` names."""
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"reward.rule = {path!r}: {error}; the module's folder must be on PYTHONPATH or its package installed"
        ) from error
    except (Exception, SystemExit) as error:  # foreign code
        raise ConfigError(f"reward.rule = {path!r}: importing {name} raised {describe_error(error)}") from error
    if not hasattr(module, attribute):
        public = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ConfigError(f"reward.rule = {path!r}: {module.__file__} has no {attribute!r}; its functions are {public}")
    function = getattr(module, attribute)
    if not callable(function):
        raise ConfigError(f"reward.rule = {path!r} is a {type(function).__name__}; it must be a function of a Trajectory")
    return cast(RewardFn, function)
