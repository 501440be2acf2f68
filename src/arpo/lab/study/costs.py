"""The costs of a run step by step, and the checkpoint that a budget reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

COSTS: Mapping[str, str] = {"tool_calls": "rollout/tool_calls_issued", "sampled_tokens": "rollout/tokens_sampled"}
"""Cost -> the metric that counts it: tool calls that the policy issued, with those of probes and top-ups; tokens it sampled."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Reached:
    """Where a budget leads."""

    step: int
    """The last checkpoint within the budget."""
    spent: float
    """By then."""
    budget: float
    is_short: bool
    """The run ended before its budget did."""


def cumulative(rows: Sequence[Mapping[str, Any]], cost: str) -> list[float]:
    """The cost up to the end of each step, in the order of the metrics' rows; `cost` is a key of `COSTS`."""
    return list(accumulate(float(row.get(COSTS[cost], 0.0)) for row in rows))


def reach(spent: Sequence[float], budget: float, every: int) -> Reached | None:
    """The last checkpoint within the budget, at a multiple of `every` steps; None: the first one exceeds it.

    Example: spent by step [10, 20, 30, 40], checkpoints every 2 steps, budget 35: step 2, with 20 spent. A budget of 70 leads
    to step 4 and is short: two more steps would have cost 20.
    """
    steps = [step for step in range(every, len(spent) + 1, every) if spent[step - 1] <= budget]
    if not steps:
        return None
    last_cost = spent[-1] / len(spent)
    is_short = steps[-1] == len(spent) and spent[-1] + every * last_cost <= budget
    return Reached(step=steps[-1], spent=spent[steps[-1] - 1], budget=budget, is_short=is_short)
