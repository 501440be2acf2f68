"""Which tasks are left out, and that a resumed run goes on with what the filter knows."""

from collections.abc import Callable

import pytest

from arpo.training.checkpoint import TrainerState
from arpo.training.task_filter import TaskFilter
from arpo.tree import RolloutTree

SOLVED, UNSOLVED, MIXED = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 1.0)
Observe = Callable[..., dict[str, float]]


@pytest.fixture
def observe(make_tree: Callable[..., RolloutTree]) -> Callable[[int, int, TrainerState], tuple[Observe, list[str]]]:
    """A filter as a function of the groups of a step: a tuple of rewards by task."""

    def build(after: int, most: int, state: TrainerState) -> tuple[Observe, list[str]]:
        lines: list[str] = []
        task_filter = TaskFilter(after, state, most=most, report=lines.append)

        def step(**groups: tuple[float, float, float]) -> dict[str, float]:
            trees = [make_tree(rewards=rewards, name=name) for name, rewards in groups.items()]
            found = task_filter.observe(trees, {name for name, rewards in groups.items() if len(set(rewards)) == 1})
            assert task_filter.filtered == set(state.filtered)
            return found

        return step, lines

    return build


def test_tasks_always_or_never_solved_are_left_out(observe):
    state = TrainerState()
    step, lines = observe(2, 5, state)
    assert step(a=SOLVED, b=UNSOLVED, c=MIXED) == {"rollout/tasks_filtered": 0}
    assert state.streaks == {"a": 1, "b": -1}
    assert step(a=SOLVED, b=UNSOLVED, c=SOLVED) == {"rollout/tasks_filtered": 2}
    assert state.filtered == ["a", "b"]
    assert state.streaks == {"c": 1}
    assert lines == [
        "task_filter: a is filtered: solved in every trajectory of its last 2 groups",
        "task_filter: b is filtered: solved in none of its last 2 groups",
    ]


@pytest.mark.parametrize("between", [MIXED, UNSOLVED])
def test_signal_or_the_other_kind_starts_the_count_anew(observe, between):
    state = TrainerState()
    step, _ = observe(2, 5, state)
    for rewards in (SOLVED, between, SOLVED):
        step(a=rewards)
    assert (state.filtered, state.streaks) == ([], {"a": 1})
    step(a=SOLVED)
    assert state.filtered == ["a"]


def test_equal_rewards_without_an_exact_answer_are_not_solved(observe):
    state = TrainerState()
    observe(1, 5, state)[0](a=(0.5, 0.5, 0.5))
    assert state.streaks == {}
    assert state.filtered == ["a"]


def test_enough_tasks_stay_for_a_step(observe):
    """Two may go; a third stays, however often it is solved."""
    state = TrainerState()
    step, lines = observe(1, 2, state)
    for _ in range(3):
        step(c=SOLVED)
        step(a=SOLVED, b=SOLVED)
    assert state.filtered == ["c", "a"]
    assert len(lines) == 2


def test_off_it_counts_nothing(observe):
    state = TrainerState()
    assert observe(0, 5, state)[0](a=SOLVED) == {}
    assert state == TrainerState()


def test_it_goes_on_from_the_state(observe):
    state = TrainerState(streaks={"a": 1, "b": -1}, filtered=["z"])
    observe(2, 5, state)[0](a=SOLVED, b=SOLVED)
    assert state.filtered == ["z", "a"]
    assert state.streaks == {"b": 1}
