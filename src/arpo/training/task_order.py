"""The order of tasks: a pure function of the seed and a position, so a resumption needs only that number."""

from array import array
from collections.abc import Sequence, Set
from random import Random

from arpo.data.stored_tasks import StoredTasks
from arpo.data.tasks import question_key
from arpo.errors import ConfigError
from arpo.seeds import derive_seed
from arpo.types import Task


class TaskOrder:
    """Epochs of shuffled tasks, one after the other; memory holds the indices of the present epoch, not the tasks."""

    def __init__(self, tasks: Sequence[Task], tasks_per_step: int, seed: int):
        """The order of tasks that stay on disk (`StoredTasks`), or of others, whose questions are read once here.

        Raises:
            ConfigError: the tasks ask fewer different questions than one step needs.
        """
        self._tasks = tasks
        self._seed = seed
        self._epoch = -1
        self._shuffled = array("q")
        self._with_references = self._count(with_references=False) < tasks_per_step
        self.num_questions = self._count(with_references=self._with_references)
        """Different questions: by their text; by text and references where a step could not be filled by text alone."""
        if self.num_questions < tasks_per_step:
            different = "" if self.num_questions == len(tasks) else f" with {self.num_questions} different questions"
            raise ConfigError(
                f"tasks_per_step = {tasks_per_step}, but the file has {len(tasks)} usable tasks{different}, and no step asks a "
                "question twice; lower it or add tasks"
            )

    def _count(self, *, with_references: bool) -> int:
        if isinstance(self._tasks, StoredTasks):
            return self._tasks.num_questions(with_references=with_references)
        return len({question_key(task, with_references=with_references) for task in self._tasks})

    def __len__(self) -> int:
        """Tasks of an epoch."""
        return len(self._tasks)

    def take(
        self, position: int, count: int, without: Set[str] = frozenset(), asked: Set[int] = frozenset()
    ) -> tuple[list[Task], int]:
        """`count` tasks from `position` on that ask different questions, and the position after them.

        All are of one epoch: the rest of an epoch with fewer is skipped.

        Args:
            position: Tasks passed since the start of the run.
            count: Tasks to take; fewer are returned where the order has no more.
            without: Ids of tasks to skip, e.g. those the step has already.
            asked: Keys (`key_of`) of questions to skip.

        Example: of the epochs b c a | c a b ..., take(0, 2) gives [b, c] and 2; take(2, 2) skips a and gives [c, a] and 5;
        take(2, 1, without={"a"}) gives [c] and 4.
        """
        size = len(self._tasks)
        count = min(count, size - len(without))
        if count <= 0:
            return [], position
        epoch, start = divmod(position, size)
        tasks: list[Task] = []
        seen = set(asked)
        for index, number in enumerate(self._shuffle(epoch)[start:], start=position + 1):
            task = self._tasks[number]
            if task.id not in without and (key := self.key_of(task)) not in seen:
                tasks.append(task)
                seen.add(key)
            if len(tasks) == count:
                return tasks, index
        if start == 0:  # a whole epoch has no more
            return tasks, (epoch + 1) * size
        return self.take((epoch + 1) * size, count, without, asked)

    def key_of(self, task: Task) -> int:
        """Key of the task's question, which no step asks twice."""
        return question_key(task, with_references=self._with_references)

    def _shuffle(self, epoch: int) -> "array[int]":
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, array("q", range(len(self._tasks)))
            Random(derive_seed(self._seed, "epoch", epoch)).shuffle(self._shuffled)  # pyright: ignore[reportArgumentType]
        return self._shuffled
