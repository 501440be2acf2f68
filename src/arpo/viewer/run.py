"""Reads the content of a run directory for report and picture in one pass; a missing part is empty, not an error."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo.errors import DataError
from arpo.tracking import read_metrics
from arpo.tree import RolloutTree, read_trees
from arpo.tree.branching import Fate, result_records
from arpo.tree.branching_statistics import BranchingStatistics
from arpo.tree.entropy import EntropyProfile, entropy_by_distance

MAX_ENTROPY_DISTANCE = 20
MAX_TREE_FILES = 60


@dataclass(slots=True, frozen=True)
class ShownTree:
    """A tree to draw, and its origin."""

    label: str
    """`step 12`, or the file's name where it is not a training step."""
    tree: RolloutTree


@dataclass(slots=True, frozen=True)
class RunRecord:
    """The content of a run directory that the viewer shows."""

    name: str
    rows: list[dict[str, Any]]
    """`metrics.jsonl`; empty without it."""
    summary: dict[str, Any]
    """`summary.json` and the values given beside it."""
    entropy: EntropyProfile
    """Over every tree of the files that were read."""
    branching: dict[str, Any]
    """`BranchingStatistics.summary` over the same trees."""
    branching_by_step: list[tuple[str, dict[str, Any]]]
    """(label, summary) of the first, middle and last training step with recorded trees; empty for fewer than two."""
    entropy_deltas: dict[Fate, list[float]]
    """Fate -> entropy_delta of the tool results with it."""
    trees: list[ShownTree]
    """One for the early, middle and late third of the steps: branched, with unequal rewards, where there is one."""
    num_trees: int
    num_tree_files: int
    num_tree_files_read: int
    """At most `MAX_TREE_FILES`, evenly spaced, so that the report of a long run is quick."""


def read_run(run: Path, summary: Mapping[str, Any] | None = None) -> RunRecord:
    """Read a run directory, or a single file of rollout trees; `summary` joins `summary.json` and wins over it.

    Raises:
        DataError: nothing is there, or a file is damaged.
    """
    if not run.exists():
        raise DataError(f"{run}: no such run directory or file of rollout trees")
    files = [run] if run.is_file() else sorted(run.glob("rollouts/*.jsonl*"))
    files = [f for f in files if f.suffix in (".jsonl", ".zst")]
    chosen = [files[index] for index in _evenly(len(files), MAX_TREE_FILES)]
    collector = _Collector(len(chosen))
    entropy = entropy_by_distance(collector.read(chosen), MAX_ENTROPY_DISTANCE)
    trees = [collector.best[third] for third in sorted(collector.best)]
    is_dir = run.is_dir()
    return RunRecord(
        name=run.name,
        rows=read_metrics(run) if is_dir else [],
        summary=(_read_summary(run / "summary.json") if is_dir else {}) | dict(summary or {}),
        entropy=entropy,
        branching=collector.branching.summary(),
        branching_by_step=collector.steps(),
        entropy_deltas=collector.entropy_deltas,
        trees=trees,
        num_trees=collector.num_trees,
        num_tree_files=len(files),
        num_tree_files_read=len(chosen),
    )


class _Collector:
    """Passes trees through, counts their branching, and keeps the most interesting one of each third of the files."""

    def __init__(self, num_files: int) -> None:
        self.num_trees = 0
        self.best: dict[int, ShownTree] = {}
        self.branching = BranchingStatistics()
        self.entropy_deltas: dict[Fate, list[float]] = {}
        self._num_files = num_files
        self._by_file: dict[str, BranchingStatistics] = {}

    def read(self, files: list[Path]) -> Iterator[RolloutTree]:
        for position, path in enumerate(files):
            third = position * 3 // self._num_files
            of_file = self._by_file.setdefault(_label(path), BranchingStatistics())
            for tree in read_trees(path):
                self.num_trees += 1
                if third not in self.best or _interest(tree) > _interest(self.best[third].tree):
                    self.best[third] = ShownTree(_label(path), tree)
                of_file.add(tree)
                self.branching.add(tree)
                for result in result_records(tree):
                    if result.entropy_delta is not None:
                        self.entropy_deltas.setdefault(result.fate, []).append(result.entropy_delta)
                yield tree

    def steps(self) -> list[tuple[str, dict[str, Any]]]:
        """The first, middle and last training step."""
        steps = [(label, statistics) for label, statistics in self._by_file.items() if label.startswith("step ")]
        chosen = [steps[index] for index in _evenly(len(steps), 3)] if len(steps) > 1 else []
        return [(label, statistics.summary()) for label, statistics in chosen]


def _interest(tree: RolloutTree) -> tuple[bool, bool, int, int, int]:
    """Branched and mixed first, then either; then more branches up to three, more tools, fewer nodes."""
    branches = sum(n.is_branch for n in tree.nodes)
    mixed = len({n.reward.value for n in tree.leaves() if n.reward is not None}) > 1
    tools = {call.name for n in tree.nodes for call in n.calls}
    return (branches > 0 and mixed, branches > 0 or mixed, min(branches, 3), len(tools), -len(tree.nodes))


def _label(path: Path) -> str:
    stem = path.name.removesuffix(".zst").removesuffix(".jsonl")
    step = stem.removeprefix("step_")
    return f"step {int(step)}" if step.isdigit() else stem


def _evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices below `count`, evenly spaced, the first and the last among them."""
    return list(range(count)) if count <= limit else [round(i * (count - 1) / (limit - 1)) for i in range(limit)]


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); delete it or write it again to see the rest of the run") from error
    if not isinstance(summary, dict):
        raise DataError(f"{path}: holds a {type(summary).__name__}, not a JSON object")
    return summary
