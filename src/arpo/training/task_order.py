"""The order of tasks: a pure function of the seed and a position, so a resumption needs only that number."""

from array import array
from collections.abc import Sequence, Set
from random import Random

from arpo.errors import ConfigError
from arpo.seeds import derive_seed
from arpo.types import Task


class TaskOrder:
    """Epochs of shuffled tasks, one after the other; memory holds the indices of the present epoch, not the tasks."""

    def __init__(self, tasks: Sequence[Task], tasks_per_step: int, seed: int):
        """Raises ConfigError when there are fewer tasks than one step needs."""
        if len(tasks) < tasks_per_step:
            raise ConfigError(
                f"tasks_per_step = {tasks_per_step}, but the file has {len(tasks)} usable tasks; lower it or add tasks"
            )
        self._tasks = tasks
        self._seed = seed
        self._epoch = -1
        self._shuffled = array("q")

    def __len__(self) -> int:
        """Tasks of an epoch."""
        return len(self._tasks)

    def take(self, position: int, count: int, without: Set[str] = frozenset()) -> tuple[list[Task], int]:
        """`count` tasks from `position` on, and the position after them.

        All are of one epoch: the rest of an epoch with fewer is skipped.

        Args:
            position: Tasks passed since the start of the run.
            count: Tasks to take; fewer are returned where the order has no more.
            without: Ids of tasks to skip, e.g. those the step has already.

        Example: of the epochs b c a | c a b ..., take(0, 2) gives [b, c] and 2; take(2, 2) skips a and gives [c, a] and 5;
        take(2, 1, without={"a"}) gives [c] and 4.
        """
        size = len(self._tasks)
        count = min(count, size - len(without))
        if count <= 0:
            return [], position
        epoch, start = divmod(position, size)
        tasks: list[Task] = []
        for index, number in enumerate(self._shuffle(epoch)[start:], start=position + 1):
            task = self._tasks[number]
            if task.id not in without:
                tasks.append(task)
            if len(tasks) == count:
                return tasks, index
        return self.take((epoch + 1) * size, count, without)

    def _shuffle(self, epoch: int) -> "array[int]":
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, array("q", range(len(self._tasks)))
            Random(derive_seed(self._seed, "epoch", epoch)).shuffle(self._shuffled)  # pyright: ignore[reportArgumentType]
        return self._shuffled
