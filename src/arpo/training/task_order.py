"""Which tasks a step trains on: a pure function of the seed and the step, so that resumption needs no position."""

from collections.abc import Sequence
from random import Random

from arpo.errors import ConfigError
from arpo.rollout.seeds import derive_seed
from arpo.types import Task


class TaskOrder:
    """Epochs of shuffled tasks, cut into steps; an epoch's incomplete last step is left out."""

    def __init__(self, tasks: Sequence[Task], tasks_per_step: int, seed: int):
        """Raises ConfigError when there are fewer tasks than one step needs."""
        if len(tasks) < tasks_per_step:
            raise ConfigError(
                f"tasks_per_step = {tasks_per_step}, but the file holds {len(tasks)} usable tasks; lower it or add tasks"
            )
        self._tasks = tasks
        self._tasks_per_step = tasks_per_step
        self._seed = seed

    def step(self, step: int) -> list[Task]:
        """The tasks of step `step`, counted from 0."""
        epoch, place = divmod(step, len(self._tasks) // self._tasks_per_step)
        order = list(range(len(self._tasks)))
        Random(derive_seed(self._seed, "epoch", epoch)).shuffle(order)
        return [self._tasks[i] for i in order[place * self._tasks_per_step : (place + 1) * self._tasks_per_step]]
