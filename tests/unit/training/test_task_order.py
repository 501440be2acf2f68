import pytest

from arpo.errors import ConfigError
from arpo.training.task_order import TaskOrder
from arpo.types import Message, Task

TASKS = [Task(id=str(i), messages=(Message(role="user", content="q"),), references=("a",), source="t") for i in range(7)]


def ids(order: TaskOrder, *steps: int) -> list[str]:
    return [task.id for step in steps for task in order.step(step)]


def test_an_epoch_takes_no_task_twice_and_drops_the_rest():
    """7 tasks, 2 a step: 3 steps an epoch, one task left out."""
    order = TaskOrder(TASKS, 2, seed=0)
    for first in (0, 3, 6):
        epoch = ids(order, first, first + 1, first + 2)
        assert len(epoch) == len(set(epoch)) == 6
    assert ids(order, 0, 1, 2) != ids(order, 3, 4, 5)


def test_who_is_left_out_changes():
    left_out = {(set("0123456") - set(ids(TaskOrder(TASKS, 2, seed=0), *range(e, e + 3)))).pop() for e in range(0, 60, 3)}
    assert len(left_out) > 3


def test_a_step_depends_on_seed_and_number_alone():
    assert ids(TaskOrder(TASKS, 2, seed=3), 8) == ids(TaskOrder(TASKS, 2, seed=3), *range(20))[16:18]
    assert ids(TaskOrder(TASKS, 2, seed=3), *range(9)) != ids(TaskOrder(TASKS, 2, seed=4), *range(9))


def test_one_step_an_epoch():
    assert sorted(ids(TaskOrder(TASKS, 7, seed=0), 5)) == list("0123456")


def test_too_few_tasks():
    with pytest.raises(ConfigError, match="tasks_per_step = 8, but the file holds 7 usable tasks"):
        TaskOrder(TASKS, 8, seed=0)
