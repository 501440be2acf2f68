"""Grows the trees of many tasks at once and yields each as it is finished."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

from arpo.errors import DataError, EngineError
from arpo.rollout.agent import Agent
from arpo.rollout.config import RolloutConfig
from arpo.rollout.entropy import require_estimator
from arpo.rollout.group import Group
from arpo.rollout.rules import build_rule
from arpo.tree import RolloutTree
from arpo.types import Task


@dataclass(slots=True, frozen=True, kw_only=True)
class TreeFailure:
    """A tree could not be grown; what it held is freed."""

    task: Task
    error: EngineError | DataError
    """Of the engine, or of the task: its prompt leaves no room for a completion."""
    is_dropped: bool
    """False: the tree is grown again from the prompt. True: it will be missing."""

    def __str__(self) -> str:
        """What happened, in one line."""
        outcome = "dropped" if self.is_dropped else "grown again from its prompt"
        return f"tree of task {self.task.id!r}: {outcome}: {self.error}"


class RolloutRunner:
    """The agent loop over groups of tasks. Knows no rewards: whoever consumes the trees scores them meanwhile."""

    def __init__(self, agent: Agent, config: RolloutConfig, *, max_live_groups: int = 64):
        """A runner that keeps up to `max_live_groups` tasks growing; the next starts when one is finished."""
        self._agent = agent
        self._config = config
        require_estimator(config, agent.engine.entropy_estimators)
        self._rule = build_rule(config.rule)
        self._max_live_groups = max_live_groups

    async def grow(
        self, tasks: Sequence[Task], *, seed: int, on_failure: Callable[[TreeFailure], None] | None = None
    ) -> AsyncGenerator[RolloutTree, None]:
        """Yield one tree of exactly `group_size` leaves per task, in the order they are finished.

        When the engine fails, the trees it was working on are closed completely and grown once more from their prompts, with
        the same seed; the others go on. A tree that fails twice is dropped if `on_failure` is there to be told, and ends the
        growth with its error otherwise; so does a task whose prompt leaves no room, at once. Any other error ends the growth.
        Who may stop reading before the end, by an error of its own too, reads within `contextlib.aclosing`: the trees that grow
        are then freed at once, and not only after the engine and the tools they use are closed.

        Args:
            tasks: What to answer; a task may occur only once.
            seed: Names the random streams; with the same seed, tasks and weights the trees are the same.
            on_failure: Told of each failure of a tree. None: no tree may be missing.

        Raises:
            DataError: two tasks have one id; or, with `on_failure` None, a prompt leaves no room for a completion.
            EngineError: a tree failed twice and `on_failure` is None.
            ToolError, EnvError: an environment's state cannot be forked, or it broke its contract.
        """
        _require_distinct(tasks)
        finished: asyncio.Queue[RolloutTree | None] = asyncio.Queue()
        growth = _Growth(
            new_group=partial(Group, self._agent, self._config, self._rule, seed=seed),
            participate=self._agent.engine.participate if self._config.deterministic else nullcontext,
            waiting=iter(tasks),
            on_finished=finished.put_nowait,
            on_failure=on_failure,
        )
        growing = asyncio.create_task(growth.run(self._max_live_groups))
        growing.add_done_callback(lambda _: finished.put_nowait(None))
        try:
            while (tree := await finished.get()) is not None:
                yield tree
            await growing
        finally:
            growing.cancel()
            await asyncio.gather(growing, return_exceptions=True)


class _Growth:
    """One call of `grow`: a task per tree, which watches over the tasks of the tree's paths."""

    def __init__(
        self,
        *,
        new_group: Callable[..., Group],
        participate: Callable[[], AbstractContextManager[None]],
        waiting: Iterator[Task],
        on_finished: Callable[[RolloutTree], None],
        on_failure: Callable[[TreeFailure], None] | None,
    ):
        self._new_group = new_group
        self._participate = participate
        self._waiting = waiting
        self._on_finished = on_finished
        self._on_failure = on_failure
        self._trees = asyncio.TaskGroup()

    async def run(self, max_live_groups: int) -> None:
        """Grow all trees."""
        try:
            async with self._trees:
                for _ in range(max_live_groups):
                    self._start_next()
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]
            raise error from error.__cause__

    def _start_next(self) -> None:
        """Begin the next tree; it takes part at once, so that no forward pass comes before its first request."""
        task = next(self._waiting, None)
        if task is not None:
            place = ExitStack()
            place.enter_context(self._participate())
            self._trees.create_task(self._grow_tree(task, place)).add_done_callback(lambda _: place.close())

    async def _grow_tree(self, task: Task, place: ExitStack) -> None:
        """Grow one tree, twice if need be; gives up its `place` among the participants once its paths have theirs."""
        for is_last_try in (False, True):
            try:
                # a task of its own: in this one a TaskGroup would let the errors of its paths hide a cancellation
                await asyncio.create_task(self._try_to_grow(task, place))
                return
            except (EngineError, DataError) as error:
                _raise_if_cancelled(error)
                is_dropped = is_last_try or isinstance(error, DataError)
                if self._on_failure is not None:
                    self._on_failure(TreeFailure(task=task, error=error, is_dropped=is_dropped))
                elif is_dropped:
                    raise
                if is_dropped:
                    break
        self._start_next()

    async def _try_to_grow(self, task: Task, place: ExitStack) -> None:
        """Grow one tree; the first error of a path cancels the others, and what they held is freed before it is raised."""
        paths = asyncio.TaskGroup()
        group = self._new_group(task, spawn=partial(self._spawn, paths), on_finished=self._finish)
        try:
            async with paths:
                group.start()
                place.close()
        except BaseExceptionGroup as errors:
            # an error that is not the engine's is for a person to mend: it must not hide behind one that is tried again
            error = next((e for e in errors.exceptions if not isinstance(e, EngineError)), errors.exceptions[0])
            raise error from error.__cause__
        finally:
            await group.aclose()

    def _finish(self, tree: RolloutTree) -> None:
        self._start_next()
        self._on_finished(tree)

    def _spawn(self, paths: asyncio.TaskGroup, coroutine: Coroutine[None, None, None]) -> None:
        participation = self._participate()
        participation.__enter__()
        paths.create_task(coroutine).add_done_callback(lambda _: participation.__exit__(None, None, None))


def _raise_if_cancelled(error: Exception) -> None:
    """Raise CancelledError if the current task was cancelled while what it waited for ended with `error`."""
    current = asyncio.current_task()
    if current is not None and current.cancelling():
        raise asyncio.CancelledError from error


def _require_distinct(tasks: Sequence[Task]) -> None:
    index, count = next(iter(Counter(task.id for task in tasks).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(
            f"tasks: id {index!r} occurs {count} times; ids name random streams and records, so each may occur only once "
            f"(to answer a task more often, raise the group size)"
        )
