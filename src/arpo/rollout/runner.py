"""Grows the trees of many tasks at once and yields each as it is finished."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext

from arpo.rollout.agent import Agent
from arpo.rollout.config import RolloutConfig
from arpo.rollout.group import Group
from arpo.rollout.rules import build_rule
from arpo.tree import RolloutTree
from arpo.types import Task


class RolloutRunner:
    """The agent loop over groups of tasks. Knows no rewards: whoever consumes the trees scores them meanwhile."""

    def __init__(self, agent: Agent, config: RolloutConfig, *, max_live_groups: int = 64):
        """A runner that keeps up to `max_live_groups` tasks growing; the next starts when one is finished."""
        self._agent = agent
        self._config = config
        self._rule = build_rule(config.rule)
        self._max_live_groups = max_live_groups
        self._participate: Callable[[], AbstractContextManager[None]] = (
            agent.engine.participate if config.deterministic else nullcontext
        )

    async def grow(self, tasks: Sequence[Task], *, seed: int) -> AsyncIterator[RolloutTree]:
        """Yield one tree of exactly `group_size` leaves per task, in the order they are finished.

        Args:
            tasks: What to answer; a task may occur only once.
            seed: Names the random streams; with the same seed, tasks and weights the trees are the same.
        """
        finished: asyncio.Queue[RolloutTree | None] = asyncio.Queue()
        growing = asyncio.create_task(self._grow_all(tasks, seed, finished))
        growing.add_done_callback(lambda _: finished.put_nowait(None))
        try:
            while (tree := await finished.get()) is not None:
                yield tree
            await growing
        finally:
            growing.cancel()
            await asyncio.gather(growing, return_exceptions=True)

    async def _grow_all(self, tasks: Sequence[Task], seed: int, finished: asyncio.Queue[RolloutTree | None]) -> None:
        waiting = iter(tasks)
        live: set[Group] = set()

        def spawn(coroutine: Coroutine[None, None, None]) -> None:
            participation = self._participate()
            participation.__enter__()
            running.create_task(coroutine).add_done_callback(lambda _: participation.__exit__(None, None, None))

        def start_next() -> None:
            task = next(waiting, None)
            if task is not None:
                group = Group(self._agent, self._config, self._rule, task, seed=seed, spawn=spawn, on_finished=finish)
                live.add(group)
                group.start()

        def finish(group: Group, tree: RolloutTree) -> None:
            live.discard(group)
            start_next()
            finished.put_nowait(tree)

        try:
            async with asyncio.TaskGroup() as running:
                for _ in range(self._max_live_groups):
                    start_next()
        except BaseExceptionGroup as group_error:
            error = group_error.exceptions[0]
            raise error from error.__cause__
        finally:
            for group in live:
                await group.aclose()
