"""Samples the trees of many tasks at once and yields each as it is finished."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial

from arpo.clients.concurrency import first_error, stream
from arpo.errors import DataError, EngineError
from arpo.rollout.agent import Agent
from arpo.rollout.config import RolloutConfig
from arpo.rollout.entropy import require_estimator
from arpo.rollout.group import Group
from arpo.rollout.rules import PastGroups, build_rule
from arpo.tree import RolloutTree
from arpo.types import Task


@dataclass(slots=True, frozen=True, kw_only=True)
class TreeFailure:
    """A tree could not be sampled; everything it held is freed."""

    task: Task
    error: EngineError | DataError
    """An engine error, or a data error: the task's prompt leaves no room for a completion."""
    is_dropped: bool
    """False: the tree is sampled again from the prompt. True: the tree is dropped."""

    def __str__(self) -> str:
        """One line that says what happened."""
        outcome = "dropped" if self.is_dropped else "sampled again from its prompt"
        return f"tree of task {self.task.id!r}: {outcome}: {self.error}"


MAX_LIVE_GROUPS = 64
"""Trees sampled at once, unless the caller says otherwise."""


class RolloutRunner:
    """The agent loop over groups of tasks. It knows no rewards: the consumer scores finished trees while others are sampled."""

    def __init__(self, agent: Agent, config: RolloutConfig, *, max_live_groups: int = MAX_LIVE_GROUPS):
        """A runner that samples up to `max_live_groups` trees at once; the next starts when one is finished."""
        self._agent = agent
        self._config = config
        require_estimator(config, agent.engine.entropy_estimators)
        self._rule = build_rule(config.rule)
        self._max_live_groups = max_live_groups

    @property
    def uses_past_groups(self) -> bool:
        """Whether the branch rule plans by the groups of earlier steps."""
        return self._rule.uses_past_groups

    def sample(
        self,
        tasks: Sequence[Task],
        *,
        seed: int,
        past_groups: Mapping[str, PastGroups] | None = None,
        on_failure: Callable[[TreeFailure], None] | None = None,
    ) -> AsyncGenerator[RolloutTree, None]:
        """Yield one tree of exactly `group_size` leaves per task, in the order they are finished.

        When the engine fails, its unfinished trees are closed completely and sampled once more from their prompts with the same
        seed; the others go on. A tree that fails twice is dropped when `on_failure` is given, and ends the sampling with its
        error otherwise. A prompt without room for a completion fails at once, without a second try. Any other error ends the
        sampling. A consumer that may stop early, also by an error, wraps the generator in `contextlib.aclosing`: unfinished
        trees are then freed at once, before the engine and the tools are closed.

        Args:
            tasks: What to answer; a task may occur only once.
            seed: Names the random streams; with the same seed, tasks, past groups and weights the trees are the same.
            past_groups: Task id -> its groups in earlier steps, for a rule that plans by them; missing: no group yet.
            on_failure: Called with each failure of a tree. None: no tree may be dropped.

        Raises:
            DataError: two tasks have one id; or, with `on_failure` None, a prompt leaves no room for a completion.
            EngineError: a tree failed twice and `on_failure` is None.
            ToolError, EnvError: an environment's state cannot be forked, or it broke its contract.
        """
        _require_distinct(tasks)

        async def sample_all(on_tree: Callable[[RolloutTree], None]) -> None:
            sampling = _Sampling(
                new_group=partial(Group, self._agent, self._config, self._rule, seed=seed),
                participate=self._agent.engine.participate if self._config.deterministic else nullcontext,
                waiting=iter(tasks),
                past_groups=past_groups or {},
                on_tree=on_tree,
                on_failure=on_failure,
            )
            await sampling.run(self._max_live_groups)

        return stream(sample_all)


@dataclass(slots=True, kw_only=True)
class _Sampling:
    """One call of `sample`: an asyncio task per tree, which waits for the tasks of the tree's paths."""

    new_group: Callable[..., Group]
    participate: Callable[[], AbstractContextManager[None]]
    waiting: Iterator[Task]
    past_groups: Mapping[str, PastGroups]
    on_tree: Callable[[RolloutTree], None]
    on_failure: Callable[[TreeFailure], None] | None
    trees: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)

    async def run(self, max_live_groups: int) -> None:
        """Sample all trees."""
        with first_error():
            async with self.trees:
                for _ in range(max_live_groups):
                    self._start_next()

    def _start_next(self) -> None:
        """Start the next tree; it participates at once, so that no forward pass comes before its first request."""
        task = next(self.waiting, None)
        if task is not None:
            participation = ExitStack()
            participation.enter_context(self.participate())
            self.trees.create_task(self._sample_tree(task, participation)).add_done_callback(lambda _: participation.close())

    async def _sample_tree(self, task: Task, participation: ExitStack) -> None:
        """Sample one tree in at most two tries; ends its `participation` once its paths participate themselves."""
        for is_last_try in (False, True):
            try:
                # a separate asyncio task: in this one a TaskGroup would let the errors of its paths hide a cancellation
                await asyncio.create_task(self._try_to_sample(task, participation))
                return
            except (EngineError, DataError) as error:
                _raise_if_cancelled(error)
                is_dropped = is_last_try or isinstance(error, DataError)
                if self.on_failure is not None:
                    self.on_failure(TreeFailure(task=task, error=error, is_dropped=is_dropped))
                elif is_dropped:
                    raise
                if is_dropped:
                    break
        self._start_next()

    async def _try_to_sample(self, task: Task, participation: ExitStack) -> None:
        """Sample one tree; the first error of a path cancels the others and is raised once everything they held is freed."""
        paths = asyncio.TaskGroup()
        past = self.past_groups.get(task.id, PastGroups())
        group = self.new_group(task, past=past, spawn=partial(self._spawn, paths), on_finished=self._finish)
        try:
            # a person has to mend any error but the engine's, so such an error must not hide behind one that is tried again
            with first_error(last=EngineError):
                async with paths:
                    group.start()
                    participation.close()
        finally:
            await group.aclose()

    def _finish(self, tree: RolloutTree) -> None:
        self._start_next()
        self.on_tree(tree)

    def _spawn(self, paths: asyncio.TaskGroup, coroutine: Coroutine[None, None, None]) -> None:
        participation = self.participate()
        participation.__enter__()
        paths.create_task(coroutine).add_done_callback(lambda _: participation.__exit__(None, None, None))


def _raise_if_cancelled(error: Exception) -> None:
    """Raise CancelledError if the current task was cancelled while the awaited task ended with `error`."""
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
