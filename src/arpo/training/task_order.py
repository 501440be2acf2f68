"""Which tasks come next: a pure function of the seed and a position, so that a resumption needs nothing but that number."""

from array import array
from collections.abc import Sequence, Set
from random import Random

from arpo.errors import ConfigError
from arpo.seeds import derive_seed
from arpo.types import Task


class TaskOrder:
    """Epochs of shuffled tasks, taken one behind the other; in memory are the present epoch's numbers, not the tasks."""

    def __init__(self, tasks: Sequence[Task], tasks_per_step: int, seed: int):
        """Raises ConfigError when there are fewer tasks than one step needs."""
        if len(tasks) < tasks_per_step:
            raise ConfigError(
                f"tasks_per_step = {tasks_per_step}, but the file holds {len(tasks)} usable tasks; lower it or add tasks"
            )
        self._tasks = tasks
        self._seed = seed
        self._epoch = -1
        self._shuffled = array("q")

    def __len__(self) -> int:
        """Tasks of an epoch."""
        return len(self._tasks)

    def take(self, position: int, count: int, without: Set[str] = frozenset()) -> tuple[list[Task], int]:
        """`count` tasks from `position` on, which counts the tasks passed since the start, and the position behind them.

        They are of one epoch: what is left of an epoch with fewer is passed over.

        Args:
            position: Where to begin; 0 at the start of the run.
            count: Tasks to take; fewer come back where no more are wanted.
            without: Ids of tasks of the order that are not wanted, e.g. those the step has already.

        Example: of the epochs b c a | c a b ..., take(0, 2) gives [b, c] and 2; take(2, 2) passes a over and gives [c, a] and
        5; take(2, 1, without={"a"}) gives [c] and 4.
        """
        size = len(self._tasks)
        count = min(count, size - len(without))
        if count <= 0:
            return [], position
        epoch, place = divmod(position, size)
        found: list[Task] = []
        for index, number in enumerate(self._shuffle(epoch)[place:], start=position + 1):
            task = self._tasks[number]
            if task.id not in without:
                found.append(task)
            if len(found) == count:
                return found, index
        return self.take((epoch + 1) * size, count, without)

    def _shuffle(self, epoch: int) -> "array[int]":
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, array("q", range(len(self._tasks)))
            Random(derive_seed(self._seed, "epoch", epoch)).shuffle(self._shuffled)  # pyright: ignore[reportArgumentType]
        return self._shuffled
