"""The metrics of one training, from its `metrics.jsonl` and its saved trees. Torch-free."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from arpo.tracking import read_metrics, series
from arpo.tree import read_trees
from arpo.tree.entropy import EntropyByDistance
from arpo.tree.statistics import TreeStatistics

Row = Mapping[str, Any]

_ENDS = 3
"""Steps whose mean entropy counts as that of the start, and of the end."""


@dataclass(slots=True, frozen=True, kw_only=True)
class TrainingMetrics:
    """What a training measured over its first steps."""

    metrics: Mapping[str, float | None]
    """By name of `RUN_MEASURES`; None where nothing says it."""
    entropy_by_step: Sequence[tuple[int, float]]
    """(step, policy entropy in nats) of the steps that updated."""
    branch_rate_by_turn: Sequence[Mapping[str, Any]]
    """As `TreeStatistics.summary` has it, of the saved trees."""
    num_trees: int
    """Saved trees behind the metrics of trees."""


def measure_training(run: Path, num_steps: int) -> TrainingMetrics:
    """Measure the first `num_steps` steps.

    Raises:
        DataError: a file of the run is damaged.
    """
    rows = [row for row in read_metrics(run) if row["step"] <= num_steps]
    config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    entropy = series(rows, "train/entropy")
    trees = _measure_trees(run, num_steps, config["rollout"]["entropy_window"])
    costs = _costs(rows, config["tasks_per_step"], config["rollout"]["group_size"])
    return TrainingMetrics(
        metrics={**costs, **_entropies(entropy), **_learning(rows), **trees.entropies},
        entropy_by_step=entropy,
        branch_rate_by_turn=trees.rates,
        num_trees=trees.num_trees,
    )


NO_TRAINING = TrainingMetrics(metrics={}, entropy_by_step=(), branch_rate_by_turn=(), num_trees=0)
"""Of a run without reinforcement learning."""


def _costs(rows: Sequence[Row], tasks_per_step: int, group_size: int) -> dict[str, float | None]:
    num_tasks = len(rows) * tasks_per_step
    names = ("tool_calls_issued", "tool_calls_executed", "num_branches", "num_opportunities", "num_initial", "num_topups")
    issued, executed, branches, opportunities, initial, topups = (sum(row[f"rollout/{n}"] for row in rows) for n in names)
    return {
        "tool_calls_per_task": issued / num_tasks,
        "tool_calls_executed_per_task": executed / num_tasks,
        "tool_calls_per_trajectory": issued / (num_tasks * group_size),
        "tool_calls_executed_per_trajectory": executed / (num_tasks * group_size),
        "tool_calls_on_path": _mean(rows, "rollout/tool_calls_per_trajectory"),
        "tokens_sampled": _mean(rows, "rollout/tokens_sampled"),
        "tokens_unique": _mean(rows, "train/tokens_unique"),
        "tokens_total": _mean(rows, "train/tokens_total"),
        "num_initial": initial / num_tasks,
        "num_branches": branches / num_tasks,
        "num_topups": topups / num_tasks,
        "branch_rate": branches / opportunities if opportunities else None,
    }


def _learning(rows: Sequence[Row]) -> dict[str, float | None]:
    updated = [row for row in rows if row["train/updates"]]
    return {
        "clip_fraction_low": _mean(updated, "train/clip_fraction_low"),
        "clip_fraction_high": _mean(updated, "train/clip_fraction_high"),
        "distinct_answers": _mean(rows, "rollout/distinct_answers_per_task"),
        "distinct_call_sequences": _mean(rows, "rollout/distinct_call_sequences_per_task"),
        "mixed_group_rate": _mean(rows, "rollout/mixed_group_rate"),
    }


def _entropies(entropy: Sequence[tuple[int, float]]) -> dict[str, float | None]:
    values = [value for _, value in entropy]
    return {
        "entropy_mean": fmean(values) if values else None,
        "entropy_start": fmean(values[:_ENDS]) if values else None,
        "entropy_end": fmean(values[-_ENDS:]) if values else None,
        "entropy_spread": stdev(values) if len(values) > 1 else None,
        "entropy_trend": 10 * slope(entropy) if len(values) > 1 else None,
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of y by x.

    Formula: sum (x - mean x)(y - mean y) / sum (x - mean x)^2.

    Example: (1, 0), (2, 3), (3, 3): (-1 · -2 + 0 + 1 · 1) / 2 = 1.5.
    """
    middle_x, middle_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [value for _, value in series(rows, name)]
    return fmean(values) if values else None


@dataclass(slots=True, frozen=True)
class _Trees:
    entropies: Mapping[str, float | None]
    rates: Sequence[Mapping[str, Any]]
    num_trees: int


def _measure_trees(run: Path, num_steps: int, window: int) -> _Trees:
    statistics, entropy = TreeStatistics(window=window), EntropyByDistance(window - 1)
    for step in range(1, num_steps + 1):
        file = run / "rollouts" / f"step_{step:06d}.jsonl.zst"
        for tree in read_trees(file) if file.is_file() else ():
            statistics.add(tree)
            entropy.add(tree)
    profile, summary = entropy.profile(), statistics.summary()
    curves = {
        "entropy_at_start": profile.before_tools,
        "entropy_after_search": profile.by_tool.get("search"),
        "entropy_after_python": profile.by_tool.get("python"),
    }
    entropies = {name: curve.mean_of_first(window) if curve and curve.mean else None for name, curve in curves.items()}
    return _Trees(entropies, [row for row in summary["branch_rate_by_turn"] if row["turn"] > 0], summary["num_trees"])
