"""Completes a reward: the measured components, and whether the answer is right."""

import math
from dataclasses import replace

from arpo.errors import ConfigError
from arpo.rewards.answer_text import boxed_answer
from arpo.rewards.format import final_answer, format_faults
from arpo.rewards.grading import Grade
from arpo.rewards.matching import Match, match
from arpo.tree import Trajectory
from arpo.types import Reward


def match_answer(trajectory: Trajectory) -> Match:
    """Match of the boxed answer that ends the trajectory with the task's references; zeros without one."""
    answer = final_answer(trajectory)
    boxed = boxed_answer(answer) if answer is not None else None
    return match(boxed, trajectory.task.references) if boxed is not None else Match(exact_match=0.0, f1=0.0)


def measure(trajectory: Trajectory) -> dict[str, float]:
    """`exact_match` and `f1` of the boxed answer, and `format`: 1 for a well-formed trajectory, else 0."""
    best = match_answer(trajectory)
    return {"exact_match": best.exact_match, "f1": best.f1, "format": float(not format_faults(trajectory))}


def complete_reward(given: object, trajectory: Trajectory, *, source: object, grade: Grade | None = None) -> Reward:
    """The result of a reward function, with missing parts added: the components of `measure`, and `is_correct`.

    Args:
        given: Result of the function: a number or a Reward.
        trajectory: The scored one.
        source: The reward function, named in the error.
        grade: The judge's; it decides whether the answer is right. None: exact match decides, where there are references.

    Raises:
        ConfigError: `given` is neither a finite number nor a Reward with one.
    """
    reward = Reward(value=float(given)) if isinstance(given, int | float) else given
    if not isinstance(reward, Reward) or not math.isfinite(reward.value):
        raise ConfigError(
            f"the reward function {_name(source)} returned {given!r} for task {trajectory.task.id}; "
            "it must return a finite number or a Reward with one"
        )
    if not {"exact_match", "f1", "format"} <= reward.components.keys():
        reward = replace(reward, components={**measure(trajectory), **reward.components})
    if reward.is_correct is None:
        by_references = reward.components["exact_match"] == 1.0 if trajectory.task.references else None
        reward = replace(reward, is_correct=by_references if grade is None else grade.is_correct)
    return reward


def _name(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
