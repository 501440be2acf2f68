"""The metrics of a study's runs, by name. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Point = Literal["steps", "tool_calls", "sampled_tokens", "time"]
"""Where arms are compared: after equal steps, or where a run has spent the tool calls, sampled tokens or time (alone on the
machine) that the budget arm's run with the same world and seed had spent by those steps."""
POINTS: tuple[Point, ...] = get_args(Point)


@dataclass(slots=True, frozen=True)
class Measure:
    """What a metric says."""

    unit: str
    """`1` for shares."""
    meaning: str


QUESTION_MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure("1", "share of test questions answered right, greedily"),
    "sampled_accuracy": Measure("1", "share of sampled answers to test questions that are right"),
    "pass_at_k": Measure("1", "at least one of k sampled answers is right, unbiased; k: the study's num_samples"),
}
"""Metrics of a test: a number per question."""

RUN_MEASURES: Mapping[str, Measure] = {
    "tool_calls_per_task": Measure(
        "count", "tool calls issued per task of a step, with those of probes, top-ups, replaced groups"
    ),
    "tool_calls_executed_per_task": Measure("count", "those executed; the cache or an equal call in flight answers the rest"),
    "tool_calls_per_trajectory": Measure("count", "tool calls issued, over the trajectories of the tasks"),
    "tool_calls_executed_per_trajectory": Measure("count", "tool calls carried out, over the trajectories of the tasks"),
    "tool_calls_on_path": Measure("count", "tool calls from the prompt to a leaf; a shared one counts for each leaf"),
    "tokens_sampled": Measure("tokens", "tokens sampled in a step"),
    "tokens_unique": Measure("tokens", "tokens that training computed in a step, shared ones once"),
    "tokens_total": Measure("tokens", "tokens that training leaf by leaf would have computed in a step"),
    "num_initial": Measure("count", "planned trajectories from the prompt, per task"),
    "num_branches": Measure("count", "branches per task"),
    "num_topups": Measure("count", "trajectories from the prompt that filled a group, per task"),
    "branch_rate": Measure("1", "branches per tool result that had leaves left to give"),
    "entropy_mean": Measure("nats", "policy entropy, mean over steps"),
    "entropy_start": Measure("nats", "policy entropy, mean of the first three steps"),
    "entropy_end": Measure("nats", "policy entropy, mean of the last three steps"),
    "entropy_spread": Measure("nats", "policy entropy, standard deviation (n-1) over steps"),
    "entropy_trend": Measure("nats", "policy entropy, change over ten steps by least squares"),
    "clip_fraction_low": Measure("1", "share of ratios below their clip bound"),
    "clip_fraction_high": Measure("1", "share of ratios above their clip bound"),
    "distinct_answers": Measure("count", "different answers in a group"),
    "distinct_call_sequences": Measure("count", "different sequences of tool calls in a group"),
    "mixed_group_rate": Measure("1", "share of groups with right and wrong answers"),
    "entropy_at_start": Measure("nats", "entropy of the first k tokens after the prompt; k: the run's rollout.entropy_window"),
    "entropy_after_search": Measure("nats", "entropy of the first k tokens after a search result"),
    "entropy_after_python": Measure("nats", "entropy of the first k tokens after a Python result"),
}
"""Metrics of a training over the steps at which arms are compared: a number per run. The last three are of the saved trees."""

MEASURES: Mapping[str, Measure] = {**QUESTION_MEASURES, **RUN_MEASURES}
