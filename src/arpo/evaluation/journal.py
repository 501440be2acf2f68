"""The progress of an evaluation. Every finished tree is on disk at once, so a kill costs only unfinished trees."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from arpo.config import dump_config
from arpo.errors import EngineError, RunError
from arpo.evaluation.config import EvalRun
from arpo.evaluation.records import AnswerTime, Failure, Mode, Record, tree_records, tree_times
from arpo.models.config import ModelConfig
from arpo.ranks import is_main
from arpo.tracking.run_directory import RunDirectory
from arpo.tree import RolloutTree, append_tree, drop_torn_tree, read_trees
from arpo.types import Task

R = TypeVar("R")

_MIN_FINISHED = 20
"""The share of failures is of at least so many tasks, so that a few early ones do not end a run."""


class Journal:
    """The trees of `rollouts/<mode>.jsonl.zst`, in the order of finishing, and their records and times in memory."""

    def __init__(self, config: EvalRun, run: RunDirectory, tasks: Sequence[Task]) -> None:
        """Read the trees of an earlier process; a half-written last one is cut off.

        Raises:
            DataError: the trees are damaged.
            RunError: a task has changed since its tree was sampled.
        """
        self._config = config
        self._run = run
        self._tasks = {task.id: task for task in tasks}
        self._records: dict[tuple[Mode, str], list[Record]] = {}
        self._times: dict[tuple[Mode, str], list[AnswerTime]] = {}
        self._failures: dict[tuple[Mode, str], Failure] = {}
        self.num_changed = 0
        """Tasks whose answers differ when sampled again."""
        for mode in self.modes:
            path = run.trees_path(mode)
            drop_torn_tree(path)
            for tree in read_trees(path) if path.is_file() else ():
                self._require_same(tree.task)
                self._add(tree, mode)

    @property
    def modes(self) -> list[Mode]:
        """Modes in which each task is answered."""
        return [*(["greedy"] if self._config.greedy else []), *(["sampled"] if self._config.num_samples else [])]

    def start(self, model: ModelConfig | None) -> None:
        """Write the configuration, once policy and tools work; from then on the run can be resumed, with the same `model`."""
        if not self._run.config_path.is_file():
            self._run.write_text("config.toml", dump_config(self._config.model_copy(update={"model": model})))

    def add(self, tree: RolloutTree, mode: Mode) -> list[Record]:
        """Append a scored tree to its file, of several ranks on the first one; return its records."""
        if is_main():
            append_tree(self._run.trees_path(mode), tree)
        return self._add(tree, mode)

    def fail(self, task: Task, mode: Mode, error: Exception) -> None:
        """Record that a task got no answer; it stays missing.

        Raises:
            EngineError: more than `max_failed_share` of the mode's tasks have failed.
        """
        self._failures[mode, task.id] = Failure(task_id=task.id, mode=mode, error=str(error))
        num_failed = sum(failed == mode for failed, _ in self._failures)
        num_finished = num_failed + sum(answered == mode for answered, _ in self._records)
        share = self._config.max_failed_share
        if num_failed > share * max(num_finished, min(len(self._tasks), _MIN_FINISHED)):
            raise EngineError(
                f"{num_failed} of {num_finished} questions failed, more than max_failed_share = {share:g} allows; the last, "
                f"task {task.id!r}: {error}; `arpo eval --resume {self._run.path}` asks them again"
            ) from error

    @property
    def failures(self) -> list[Failure]:
        """The questions without an answer, in the order of the modes and tasks."""
        in_order = (self._failures.get((mode, task_id)) for mode in self.modes for task_id in self._tasks)
        return [failure for failure in in_order if failure is not None]

    def missing(self, mode: Mode) -> list[Task]:
        """The tasks without an answer of the mode."""
        return [task for task in self._tasks.values() if self.is_missing(task, mode)]

    def is_missing(self, task: Task, mode: Mode) -> bool:
        """Whether the task has no answer of the mode."""
        return (mode, task.id) not in self._records

    def blocks(self, mode: Mode, size: int) -> list[list[Task]]:
        """The tasks in blocks of `size`, without the blocks that have all answers.

        A block sampled again from its start has batches of the same composition, and so the same answers to the bit: tasks with
        an answer on disk are sampled again beside the missing ones.
        """
        tasks = list(self._tasks.values())
        blocks = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        return [block for block in blocks if any(self.is_missing(task, mode) for task in block)]

    def has(self, tree: RolloutTree, mode: Mode) -> bool:
        """Whether the task was answered before; `num_changed` counts answers that differ."""
        records = self._records.get((mode, tree.task.id))
        if records is not None:
            self.num_changed += [r.response for r in records] != [t.response_text for t in tree.trajectories()]
        return records is not None

    def records(self, mode: Mode | None = None) -> list[Record]:
        """The records of one mode, or of both, greedy first, in the order of the tasks."""
        return self._in_order(self._records, self.modes if mode is None else [mode])

    def times(self) -> list[AnswerTime]:
        """The time of each record, in their order."""
        return self._in_order(self._times, self.modes)

    def _in_order(self, rows: Mapping[tuple[Mode, str], list[R]], modes: Sequence[Mode]) -> list[R]:
        return [row for mode in modes for task_id in self._tasks for row in rows.get((mode, task_id), ())]

    def _add(self, tree: RolloutTree, mode: Mode) -> list[Record]:
        self._times[mode, tree.task.id] = tree_times(tree, mode)
        records = self._records[mode, tree.task.id] = tree_records(tree, mode, self._config.metric)
        return records

    def _require_same(self, sampled: Task) -> None:
        task = self._tasks.get(sampled.id)
        if task is None or (task.messages, task.references) != (sampled.messages, sampled.references):
            change = "is not among the tasks any more" if task is None else "has another question or other references now"
            raise RunError(f"{self._run.path}: task {sampled.id!r} {change} ({self._config.tasks}); evaluate into a new folder")
