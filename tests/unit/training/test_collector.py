"""Which trees a step learns from."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from arpo.errors import EngineError
from arpo.rewards.build import build_scorer
from arpo.rewards.config import RewardConfig
from arpo.rewards.scoring import Scorer
from arpo.rollout.rules import PastGroups
from arpo.rollout.runner import TreeFailure
from arpo.training.collector import Collector, StepRollouts
from arpo.training.task_order import TaskOrder
from arpo.tree import RolloutTree, Trajectory
from arpo.types import Message, Reward, Task

TASKS = [Task(id=str(i), messages=(Message(role="user", content=f"q {i}"),), references=("2",), source="t") for i in range(9)]


class Runner:
    """Yields a tree per task in the opposite order, and fails on some."""

    def __init__(self, make_tree: Callable[..., RolloutTree], lost: str):
        self.rounds: list[list[str]] = []
        self.seeds: list[int] = []
        self.past: list[Any] = []
        self._make_tree = make_tree
        self._lost = lost

    async def sample(
        self, tasks: Sequence[Task], *, seed: int, past_groups: Any, on_failure: Any
    ) -> AsyncIterator[RolloutTree]:
        self.rounds.append([task.id for task in tasks])
        self.seeds.append(seed)
        self.past.append(past_groups)
        for task in reversed(tasks):
            if task.id in self._lost:
                on_failure(TreeFailure(task=task, error=EngineError("no memory"), is_dropped=False))
                on_failure(TreeFailure(task=task, error=EngineError("no memory"), is_dropped=True))
            else:
                yield self._make_tree(name=task.id)


@pytest.fixture
def grow(make_tree):
    """Grows one step of 3 tasks; tasks named in `mixed` have right and wrong answers, those in `partial` unequal rewards."""

    async def run(
        *, mixed: str, max_rounds: int, lost: str = "", position: int = 0, partial: str = ""
    ) -> tuple[StepRollouts, Runner]:
        def reward(trajectory: Trajectory) -> Reward:
            length, name = len(trajectory.token_ids), trajectory.task.id
            is_correct = length > 11 if name in mixed else name not in partial
            return Reward(value=float(length if name in mixed + partial else 1), is_correct=is_correct)

        runner = Runner(make_tree, lost)
        collector = Collector(
            runner, Scorer(reward), TaskOrder(TASKS, 3, seed=0), tasks_per_step=3, max_rounds=max_rounds, seed=0,  # pyright: ignore
            report=lambda _: None,
        )  # fmt: skip
        return await collector.collect(4, position), runner

    return run


ORDER = [task.id for task in TaskOrder(TASKS, 3, seed=0).take(0, 9)[0]]


def names(trees: Sequence[RolloutTree]) -> list[str]:
    return [tree.task.id for tree in trees]


async def test_without_dynamic_sampling_every_tree_is_kept(grow):
    grown, runner = await grow(mixed="", max_rounds=0)
    assert names(grown.trained) == names(grown.trees) == ORDER[:3], "in the order of the tasks, not in that of their end"
    assert (grown.num_rounds, grown.position, grown.replaced) == (1, 3, frozenset())
    assert len(runner.rounds) == 1


async def test_partial_credit_is_signal_until_groups_are_replaced_for_their_answers(grow):
    """Three wrong answers of unequal reward teach; DAPO's filter asks whether some are right."""
    grown, _ = await grow(mixed="", partial=ORDER[0], max_rounds=0)
    assert grown.without_signal == {*ORDER[1:3]}
    grown, _ = await grow(mixed=ORDER[1], partial=ORDER[0], max_rounds=1)
    assert ORDER[0] in grown.without_signal
    assert ORDER[0] in grown.replaced


async def test_groups_without_signal_are_replaced_by_the_next_tasks(grow):
    """Tasks 1, 3 and 6 of the order teach something: rounds of 3, 2 and 1 tasks, then nothing is missing."""
    grown, runner = await grow(mixed=ORDER[1] + ORDER[3] + ORDER[5], max_rounds=10)
    assert runner.rounds == [ORDER[:3], ORDER[3:5], ORDER[5:6]]
    assert names(grown.trained) == [ORDER[1], ORDER[3], ORDER[5]]
    assert grown.replaced == {ORDER[0], ORDER[2], ORDER[4]}
    assert names(grown.trees) == ORDER[:6]
    assert (grown.num_rounds, grown.position) == (3, 6)
    assert len(set(runner.seeds)) == 3, "a round has random streams of its own"


async def test_every_round_gets_the_tasks_earlier_groups(make_tree):
    """As they were before the step: what a round finds does not count for the next."""
    runner, past = Runner(make_tree, ""), {"0": PastGroups(num_groups=2, num_mixed=1)}
    collector = Collector(
        runner, Scorer(lambda _: Reward(value=1.0, is_correct=True)), TaskOrder(TASKS, 3, seed=0), tasks_per_step=3,  # pyright: ignore
        max_rounds=2, seed=0, report=lambda _: None,
    )  # fmt: skip
    await collector.collect(0, 0, past_groups=past)
    assert runner.past == [past, past, past]


async def test_after_the_last_round_free_places_go_to_the_latest_without_signal(grow):
    grown, runner = await grow(mixed=ORDER[0] + ORDER[3], max_rounds=1)
    assert runner.rounds == [ORDER[:3], ORDER[3:5]]
    assert names(grown.trained) == [ORDER[0], ORDER[3], ORDER[4]]
    assert grown.replaced == {ORDER[1], ORDER[2]}


async def test_no_task_is_tried_twice_in_a_step(grow):
    """Nothing ever teaches: 9 tasks in rounds of 3, across the end of an epoch; then there is none left."""
    grown, runner = await grow(mixed="", max_rounds=10, position=3)
    assert sorted(name for names in runner.rounds for name in names) == sorted(ORDER)
    assert len(grown.trained) == 3
    assert len(grown.replaced) == 6
    again, _ = await grow(mixed="", max_rounds=10, position=3)
    assert names(again.trees) == names(grown.trees)


async def test_lost_trees_are_counted_and_replaced(grow):
    grown, runner = await grow(mixed="012345678", max_rounds=2, lost=ORDER[1])
    assert runner.rounds == [ORDER[:3], ORDER[3:4]]
    assert names(grown.trained) == [ORDER[0], ORDER[2], ORDER[3]]
    assert (grown.num_dropped, grown.replaced) == (1, frozenset())
    alone, _ = await grow(mixed="012345678", max_rounds=0, lost=ORDER[1])
    assert len(alone.trained) == 2


async def test_a_step_without_any_tree_ends_the_run(grow):
    with pytest.raises(EngineError, match="step 5: every tree was dropped; the last error: no memory"):
        await grow(mixed="", max_rounds=1, lost="012345678")


async def test_a_tree_with_an_ungraded_answer_is_lost_and_reported(make_tree, serve, replies):
    """The judge is down for the question of one task, by its name; the others are graded."""
    lost_id = ORDER[1]

    async def handle(request: Any, writer: Any) -> None:
        asked = request.json()["messages"][0]["content"]
        ok = replies.reply(200, {"choices": [{"message": {"content": "Correct"}, "finish_reason": "stop"}]})
        await (replies.reply(400, b"no") if f"question {lost_id}\n" in asked else ok)(request, writer)

    server = await serve(handle)
    tasks = [replace(task, messages=(Message(role="user", content=f"question {task.id}"),)) for task in TASKS]

    def make(name: str) -> RolloutTree:
        tree = make_tree(name=name)
        tree.task = next(task for task in tasks if task.id == name)
        return tree

    lines: list[str] = []
    judge = {"base_url": f"{server.url}/v1", "model": "m", "http": {"max_retries": 0}}
    scorer = build_scorer(RewardConfig.model_validate({"judge": judge}))
    collector = Collector(
        Runner(make, ""), scorer, TaskOrder(tasks, 3, seed=0), tasks_per_step=3, max_rounds=0, seed=0,  # pyright: ignore
        report=lines.append,
    )  # fmt: skip
    grown = await collector.collect(0, 0)
    assert names(grown.trained) == [ORDER[0], ORDER[2]]
    assert grown.num_dropped == 1
    assert lines[0].startswith(f"tree of task {lost_id!r}: dropped: 2 of its 3 answers have no verdict: reward.judge:")
    assert scorer.drain_judge_metrics()["judge/ungraded"] == 2
    await scorer.aclose()
