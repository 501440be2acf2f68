"""The engine fails, tools fail, and whoever waits gives up, at random: trees come whole or not at all, and nothing is left."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from arpo.errors import EngineError
from arpo.rollout.config import ArpoRuleConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.tree import RolloutTree
from arpo.types import Task, ToolResult

CONFIG = RolloutConfig(group_size=6, num_initial_trajectories=2, entropy_window=2, rule=ArpoRuleConfig(tau=0.0))


class FaultyTool:
    """A tool with state that answers late, raises, hangs or cancels itself; `open` holds the forks not closed yet."""

    name, version, is_cacheable = "search", "1", False
    schema: Mapping[str, Any] = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}

    def __init__(self, random: Random, open_forks: "list[FaultyTool]") -> None:
        self._random = random
        self._open = open_forks

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        assert self in self._open, "used after it was closed"
        fault = self._random.random()
        if fault < 0.1:
            raise OSError("no route")
        if fault < 0.2:
            raise asyncio.CancelledError
        await asyncio.sleep(3600 if fault < 0.3 else self._random.choice([0.0, 0.001]))
        return ToolResult(content=arguments["query"])

    def fork(self) -> "FaultyTool":
        fork = FaultyTool(self._random, self._open)
        self._open.append(fork)
        return fork

    async def aclose(self) -> None:
        if self in self._open:
            self._open.remove(self)


def faulty_world(make_world, seed: int, engine_fault_rate: float) -> tuple[Any, list[FaultyTool]]:
    random = Random(seed)
    world, open_forks = make_world(), []

    def fail(*_: object) -> None:
        if random.random() < engine_fault_rate:
            raise ZeroDivisionError("broken kernel")

    world.model.base_model.register_forward_pre_hook(fail)
    tool = FaultyTool(random, open_forks)
    executor = ToolExecutor({"search": tool}, ExecutorConfig(max_calls=3, timeout_s=0.005), world.tokenizer.cut)
    world.agent = replace(world.agent, environment=executor)
    return world, open_forks


async def assert_nothing_left(world: Any, open_forks: list[FaultyTool]) -> None:
    world.assert_empty()
    assert open_forks == []
    await world.engine.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("deterministic", [True, False])
async def test_after_random_failures_nothing_is_left(make_world, many_tasks: list[Task], deterministic: bool) -> None:
    """Every task ends as a whole tree or as a reported loss; with some faults, both happen."""
    config = CONFIG.model_copy(update={"deterministic": deterministic})
    num_trees = num_dropped = num_retried = 0
    for seed in range(3):
        world, open_forks = faulty_world(make_world, seed, engine_fault_rate=0.03)
        failures: list[TreeFailure] = []
        runner = RolloutRunner(world.agent, config, max_live_groups=3)
        trees = [tree async for tree in runner.sample(many_tasks, seed=seed, on_failure=failures.append)]
        await assert_nothing_left(world, open_forks)
        dropped = [f.task.id for f in failures if f.is_dropped]
        assert sorted([*dropped, *(tree.task.id for tree in trees)]) == sorted(t.id for t in many_tasks)
        assert all(len(tree.leaves()) == config.group_size for tree in trees)
        assert all("broken kernel" in str(f) and isinstance(f.error.__cause__, ZeroDivisionError) for f in failures)
        num_trees, num_dropped = num_trees + len(trees), num_dropped + len(dropped)
        num_retried += len(failures) - 2 * len(dropped)
    assert num_trees > 0
    assert num_dropped > 0
    assert num_retried > 0, "some tree was whole the second time"


async def test_giving_up_amid_failures_leaves_nothing(make_world, many_tasks: list[Task]) -> None:
    outcomes = set()
    for seed in range(8):
        world, open_forks = faulty_world(make_world, seed, engine_fault_rate=0.02)
        runner = RolloutRunner(world.agent, CONFIG, max_live_groups=3)

        async def consume(runner: RolloutRunner = runner, seed: int = seed) -> list[RolloutTree]:
            return [tree async for tree in runner.sample(many_tasks, seed=seed)]

        consumer = asyncio.create_task(consume())
        for _ in range(Random(seed).randint(1, 300)):
            await asyncio.sleep(0)
        consumer.cancel()
        (outcome,) = await asyncio.gather(consumer, return_exceptions=True)
        outcomes.add(type(outcome))
        await assert_nothing_left(world, open_forks)
    assert outcomes <= {asyncio.CancelledError, EngineError, list}
    assert asyncio.CancelledError in outcomes


async def test_a_tree_grown_again_is_the_tree_without_the_failure(make_world, tasks: list[Task]) -> None:
    """The draws are those of the seed; the failure changes the batches, and so the last digits only."""
    trees = {}
    for failing in (False, True):
        world, calls = make_world(), 0

        def fail(*_: object, failing: bool = failing) -> None:
            nonlocal calls
            calls += 1
            if failing and calls == 9:
                raise ZeroDivisionError("broken kernel")

        world.model.base_model.register_forward_pre_hook(fail)
        failures: list[TreeFailure] = []
        grown = RolloutRunner(world.agent, CONFIG).sample(tasks, seed=4, on_failure=failures.append)
        trees[failing] = {tree.task.id: [n.token_ids for n in tree.nodes] async for tree in grown}
        world.assert_empty()
        assert [f.is_dropped for f in failures] == [False] * (len(tasks) if failing else 0)
    assert trees[True] == trees[False]
