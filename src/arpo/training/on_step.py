"""What a callback of one's own gets after each step of training."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from arpo.errors import ConfigError
from arpo.tree import RolloutTree


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """A finished step.

    Example:
        def on_step(report: arpo.StepReport) -> None:
            print(report.step, report.metrics["rollout/reward_mean"])
    """

    step: int
    """Finished steps, from 1; of SFT, updates."""
    num_steps: int
    """Steps of the whole run; of SFT, updates, which a time limit may cut."""
    metrics: Mapping[str, float]
    """The step's metrics by name, as in metrics.jsonl and docs/metrics.md."""
    trees: Sequence[RolloutTree] = ()
    """The step's trees, scored, those that were replaced among them; empty in SFT."""


OnStep = Callable[[StepReport], object]
"""Called after each step, in the thread that trains; its result is ignored."""


def check_callback(on_step: OnStep | None) -> None:
    """Refuse what cannot be called with a report.

    Raises:
        ConfigError: it is no function, asynchronous, or has other arguments.
    """
    if on_step is None:
        return
    if not callable(on_step) or inspect.iscoroutinefunction(on_step):
        what = "is asynchronous" if callable(on_step) else f"is a {type(on_step).__name__}"
        raise ConfigError(f"on_step {what}; it must be a plain function of a StepReport")
    try:
        signature = inspect.signature(on_step)
    except (ValueError, TypeError):  # written in C
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise ConfigError(f"on_step has the arguments {signature} ({error}); write def on_step(report)") from None
