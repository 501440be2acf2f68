from typing import Any

import pytest

from arpo.errors import ConfigError
from arpo.training.task_order import TaskOrder
from arpo.types import Message, Task

TASKS = [Task(id=str(i), messages=(Message(role="user", content=f"q {i}"),), references=("a",), source="t") for i in range(7)]


def ids(order: TaskOrder, count: int, position: int = 0, num_steps: int = 1) -> list[str]:
    """The ids of several steps of `count` tasks, one behind the other."""
    found: list[str] = []
    for _ in range(num_steps):
        tasks, position = order.take(position, count)
        found += [task.id for task in tasks]
    return found


def test_an_epoch_takes_no_task_twice_and_drops_the_rest():
    """7 tasks, 2 a step: 3 steps an epoch, one task left out; the next epoch begins at position 7."""
    order = TaskOrder(TASKS, 2, seed=0)
    whole = ids(order, 2, num_steps=9)
    epochs = [whole[:6], whole[6:12], whole[12:]]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[1] == ids(order, 2, position=7, num_steps=3)
    assert order.take(6, 2)[1] == 9


def test_who_is_left_out_changes():
    whole = ids(TaskOrder(TASKS, 2, seed=0), 2, num_steps=60)
    left_out = {(set("0123456") - set(whole[i : i + 6])).pop() for i in range(0, len(whole), 6)}
    assert len(left_out) > 3


def test_what_comes_next_depends_on_seed_and_position_alone():
    assert ids(TaskOrder(TASKS, 2, seed=3), 2, position=9) == ids(TaskOrder(TASKS, 2, seed=3), 2, num_steps=5)[8:]
    assert ids(TaskOrder(TASKS, 2, seed=3), 2, num_steps=9) != ids(TaskOrder(TASKS, 2, seed=4), 2, num_steps=9)


def test_one_step_an_epoch():
    assert sorted(ids(TaskOrder(TASKS, 7, seed=0), 7, position=35)) == list("0123456")


def test_unwanted_tasks_are_passed_over():
    """From position 1 the epoch has six tasks; without the second of them the next two are the first and the third."""
    order = TaskOrder(TASKS, 2, seed=0)
    epoch = ids(order, 7)
    tasks, position = order.take(1, 2, without={epoch[2]})
    assert ([task.id for task in tasks], position) == ([epoch[1], epoch[3]], 4)
    later, position = order.take(5, 2, without={epoch[5]})
    assert all(task.id != epoch[5] for task in later)
    assert position > 7, "one of the last two is not wanted, so both come from the next epoch"


def test_no_more_than_there_are():
    order = TaskOrder(TASKS, 2, seed=0)
    assert len(order.take(0, 5, without=set("01234"))[0]) == 2
    assert order.take(3, 2, without=set("0123456")) == ([], 3)


def test_tasks_are_read_one_by_one():
    """A step reads what it takes and what it passes over, never the whole file."""

    class Counted(list[Task]):
        reads = 0

        def __getitem__(self, index: Any) -> Any:
            self.reads += 1
            return super().__getitem__(index)

    tasks = Counted(TASKS)
    order = TaskOrder(tasks, 2, seed=0)
    tasks.reads = 0
    first, position = order.take(0, 2)
    order.take(position, 2, without={first[0].id})
    assert tasks.reads == 4


def test_the_shuffle_is_the_seeds_alone():
    """The order of seed 0 as it always was: a checkpoint's position means these tasks."""
    assert "".join(ids(TaskOrder(TASKS, 7, seed=0), 7, num_steps=2)) == "42530162531640"


def test_too_few_tasks():
    with pytest.raises(ConfigError, match="tasks_per_step = 8, but the file has 7 usable tasks"):
        TaskOrder(TASKS, 8, seed=0)


def repeated(*questions: str, answers: str = "a") -> list[Task]:
    return [
        Task(id=str(i), messages=(Message(role="user", content=q),), references=(answers[i % len(answers)],), source="t")
        for i, q in enumerate(questions)
    ]


@pytest.mark.parametrize("tasks_per_step", [2, 3])
def test_no_step_asks_a_question_twice(tasks_per_step: int):
    """Three questions, each a hundred times, which ten steps ask without a repetition, as a function of the position."""
    tasks = repeated(*"xyz" * 100)
    position, steps = 0, []
    for _ in range(10):
        before = position
        taken, position = TaskOrder(tasks, tasks_per_step, seed=0).take(position, tasks_per_step)
        assert len({task.question for task in taken}) == tasks_per_step
        assert TaskOrder(tasks, tasks_per_step, seed=0).take(before, tasks_per_step) == (taken, position)
        steps.append([task.question for task in taken])
    assert len(set(map(tuple, steps))) > 1


def test_further_tasks_of_a_step_ask_other_questions():
    order = TaskOrder(repeated(*"xxyyzz"), 2, seed=0)
    first, position = order.take(0, 2)
    more, _ = order.take(position, 2, without={task.id for task in first}, asked=set(map(order.key_of, first)))
    assert len(more) == 1, "of three questions one is left"
    assert {task.question for task in (*first, *more)} == set("xyz")


def test_too_few_questions():
    with pytest.raises(ConfigError, match="6 usable tasks with 3 different questions, and no step asks a question twice"):
        TaskOrder(repeated(*"xxyyzz"), 4, seed=0)


def test_references_tell_questions_apart_only_where_texts_cannot_fill_a_step():
    """An environment may ask everybody the same and hide the answer: one text, three answers."""
    order = TaskOrder(repeated("x", "x", "x", answers="abc"), 2, seed=0)
    assert (order.num_questions, len(order.take(0, 2)[0])) == (3, 2)
    assert TaskOrder(repeated("x", "x", "y", answers="abc"), 2, seed=0).num_questions == 2
