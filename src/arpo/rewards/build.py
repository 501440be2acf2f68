"""Builds reward function and scorer from a configuration."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from arpo.errors import ConfigError
from arpo.function_name import FunctionName
from arpo.functions.loading import load_function
from arpo.rewards.base import RewardFn
from arpo.rewards.composite import CompositeReward
from arpo.rewards.config import RewardConfig
from arpo.rewards.environment import EnvironmentReward
from arpo.rewards.grading import Grader
from arpo.rewards.judge.judge import Judge
from arpo.rewards.released import ReleasedReward
from arpo.rewards.scoring import Scorer

RULES: dict[str, Callable[[RewardConfig], RewardFn]] = {
    "arpo": CompositeReward, "arpo_released": ReleasedReward, "composite": CompositeReward, "environment": EnvironmentReward,
}  # fmt: skip


def build_reward(config: RewardConfig) -> RewardFn:
    """The reward function `config` names.

    Raises:
        ConfigError: as `load_function` and `check_reward`.
    """
    if config.rule in RULES:
        return RULES[config.rule](config)
    label = f"reward.rule = {config.rule!r}"
    return check_reward(load_function(FunctionName.parse(config.rule), label).value, label)


def build_scorer(
    config: RewardConfig, reward_fn: RewardFn | None = None, *, measures: Mapping[str, Grader] | None = None
) -> Scorer:
    """The scorer `config` names, with its judge where it has one.

    Args:
        config: The reward.
        reward_fn: Your own reward in place of the configured one.
        measures: As in `Scorer`.

    Raises:
        ConfigError: as `choose_reward`; or there is a judge, but the reward uses no grade.
    """
    judge = Judge(config.judge) if config.judge is not None else None
    return Scorer(choose_reward(config, reward_fn), judge=judge, measures=measures)


def choose_reward(config: RewardConfig, reward_fn: RewardFn | None) -> RewardFn:
    """The reward given from Python, else the configured one.

    Raises:
        ConfigError: as `build_reward` and `check_reward`; or both are functions of one's own.
    """
    if reward_fn is None:
        return build_reward(config)
    if config.rule not in RULES:
        raise ConfigError(f"reward.rule = {config.rule!r} beside the argument reward_fn: both are the reward; give one")
    return check_reward(reward_fn, "reward_fn")


def check_reward(function: Any, label: str) -> RewardFn:
    """A reward function of one's own.

    Raises:
        ConfigError: it is none: no function, a class, asynchronous, or not callable with a trajectory alone.
    """
    if not callable(function) or inspect.isclass(function):
        what = "a class" if inspect.isclass(function) else f"a {type(function).__name__}"
        raise ConfigError(f"{label} is {what}; it must be a function of a Trajectory")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{label} is asynchronous; write a plain function (def), which arpo runs in a thread")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # written in C
        return cast(RewardFn, function)
    try:
        signature.bind(None)
    except TypeError as error:
        raise ConfigError(
            f"{label} has the arguments {signature} ({error}), but a reward gets the trajectory alone: write "
            f"def {getattr(function, '__name__', 'reward')}(trajectory), and read trajectory.response_text and "
            f"trajectory.task.references"
        ) from None
    return cast(RewardFn, function)
