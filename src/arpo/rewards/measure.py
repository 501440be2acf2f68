"""Asks a reward function and completes what it gives: the measured components, and whether the answer is right."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from arpo.errors import ArpoError, ConfigError
from arpo.functions.loading import describe_error
from arpo.rewards.answer_text import boxed_answer
from arpo.rewards.format import final_answer, format_faults
from arpo.rewards.grading import Grade
from arpo.rewards.matching import Match, match
from arpo.tree import Trajectory
from arpo.types import Reward


def match_answer(trajectory: Trajectory) -> Match:
    """Match of the boxed answer that ends the trajectory with the task's references; zeros without one."""
    boxed = _final_box(trajectory)
    return match(boxed, trajectory.task.references) if boxed is not None else Match(exact_match=0.0, f1=0.0)


def _final_box(trajectory: Trajectory) -> str | None:
    answer = final_answer(trajectory)
    return boxed_answer(answer) if answer is not None else None


def measure(trajectory: Trajectory) -> dict[str, float]:
    """`exact_match` and `f1` of the boxed answer, and `format`: 1 for a well-formed trajectory, else 0."""
    best = match_answer(trajectory)
    return {"exact_match": best.exact_match, "f1": best.f1, "format": float(not format_faults(trajectory))}


def ask_reward(function: Callable[..., Any], trajectory: Trajectory, *given: Grade) -> Reward | None:
    """The reward of a trajectory, with the parts that its function leaves out; None where the function gives none.

    Args:
        function: The reward function.
        trajectory: The finished one.
        given: The judge's grade, if there is one; it decides whether the answer is right.

    Raises:
        ConfigError: the function raised, or returned neither a reward nor None; the message names it, the task and the line.
        ArpoError: a reward of arpo raised it.
    """
    try:
        value = function(trajectory, *given)
    except (Exception, SystemExit) as error:  # foreign code
        if isinstance(error, ArpoError) and _name(function).startswith("arpo."):
            raise
        raise ConfigError(
            f"the reward function {_name(function)} raised {describe_error(error)}, for task {trajectory.task.id}"
        ) from error
    if value is None:
        return None
    return complete_reward(value, trajectory, source=function, grade=given[0] if given else None)


def complete_reward(given: object, trajectory: Trajectory, *, source: object, grade: Grade | None = None) -> Reward:
    """The result of a reward function, with missing parts added: the components of `measure`, and `is_correct`.

    Where neither function nor judge says whether the answer is right, and there is no box or no reference to compare, the
    components `exact_match` and `f1` are left out: they would be 0 whatever the reward, and are not measured.

    Args:
        given: Result of the function: a number (of numpy or torch too), a Reward, or components by name, whose sum is the
            reward.
        trajectory: The scored one.
        source: The reward function, named in the error.
        grade: The judge's; it decides whether the answer is right. None: exact match decides, where there are references.

    Raises:
        ConfigError: `given` is neither a finite number nor a Reward or components of finite numbers.
    """
    try:
        reward = _as_reward(given)
    except _NameError as error:
        raise ConfigError(
            f"the reward function {_name(source)} returned {given!r} for task {trajectory.task.id}: {error}"
        ) from error
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        raise ConfigError(
            f"the reward function {_name(source)} returned {given!r} for task {trajectory.task.id}; it must return a finite "
            f"number, a Reward of finite numbers, components by name (their sum is the reward), or None (ungraded)"
        ) from error
    if not {"exact_match", "f1", "format"} <= reward.components.keys():
        measured = measure(trajectory)
        is_judged = reward.is_correct is not None or grade is not None
        if not is_judged and (_final_box(trajectory) is None or not trajectory.task.references):
            del measured["exact_match"], measured["f1"]
        reward = replace(reward, components={**measured, **reward.components})
    if reward.is_correct is None:
        by_references = reward.components.get("exact_match") == 1.0 if trajectory.task.references else None
        reward = replace(reward, is_correct=by_references if grade is None else grade.is_correct)
    return reward


_TOTALS = ("reward", "score", "total", "value")
"""Names of a component that is the whole reward, not a part of it: a sum would count it twice."""
_COMPONENT = re.compile(r"[^\W\d][\w./-]*")


class _NameError(ValueError):
    """A component's name is no name."""


def _as_reward(given: Any) -> Reward:
    if isinstance(given, Mapping):
        total = next((name for name in _TOTALS if name in given), None)
        if total is not None or not given:
            what = f"{total!r} looks like the whole reward" if total else "it has no component"
            raise _NameError(f"the reward is the sum of the components, but {what}; return Reward(value=..., components=...)")
        components = _components(given)
        return Reward(value=math.fsum(components.values()), components=components)
    if not isinstance(given, Reward):
        return Reward(value=_as_number(given))
    return replace(
        given,
        value=_as_number(given.value),
        is_correct=None if given.is_correct is None else bool(given.is_correct),
        components=_components(given.components),
    )


def _components(given: Mapping[Any, Any]) -> dict[str, float]:
    """The components as numbers; their names become names of metrics."""
    for name in given:
        if not isinstance(name, str) or not _COMPONENT.fullmatch(name):
            raise _NameError(f"{name!r} cannot name a component; use a letter, then letters, digits and _ - . /")
    return {name: _as_number(value) for name, value in given.items()}


def _as_number(value: Any) -> float:
    """A scalar of Python, numpy or torch; raises ValueError or TypeError for anything else."""
    if isinstance(value, str | bytes):
        raise TypeError("a text")
    number = float(value.item() if hasattr(value, "item") else value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _name(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
