"""One task's group: its initial trajectories, the branches they earn, and the top-ups that make the group whole.

Logical time makes competition for the branch budget exact. The opportunities of turn t are decided once every live path has
its turn-t result measured or has ended; originals go on meanwhile, so nothing waits and the tree does not depend on latency.
"""

from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random

from arpo.errors import DataError
from arpo.inference.base import PrefixHandle
from arpo.rollout.agent import Agent
from arpo.rollout.config import RolloutConfig
from arpo.rollout.entropy import entropy_delta
from arpo.rollout.path import Path
from arpo.rollout.rules import BranchRule, Opportunity
from arpo.rollout.seeds import derive_seed
from arpo.tools.executor import ToolSession
from arpo.tree import Node, RolloutTree
from arpo.types import Completion, Task


@dataclass(slots=True, frozen=True)
class _Candidate:
    """An opportunity with what a branch would start from."""

    key: tuple[int, ...]
    node: Node
    opportunity: Opportunity
    prefix: PrefixHandle
    session: ToolSession


class Group:
    """Grows the tree of one task to exactly `group_size` leaves."""

    def __init__(
        self,
        agent: Agent,
        config: RolloutConfig,
        rule: BranchRule,
        task: Task,
        *,
        seed: int,
        spawn: Callable[[Coroutine[None, None, None]], None],
        on_finished: Callable[["Group", RolloutTree], None],
    ):
        """A group for `task`.

        Args:
            agent: Engine, protocol, tools and limits.
            config: Sizes, entropy measurement, temperature.
            rule: Where to branch.
            task: What to answer.
            seed: Names the random streams, together with the task's id.
            spawn: Starts a coroutine that counts as the engine's participant from this call to its end.
            on_finished: Called with the finished tree, before the last path stops participating.
        """
        self._agent = agent
        self._config = config
        self._rule = rule
        self._task = task
        self._seed = seed
        self._spawn = spawn
        self._on_finished = on_finished
        self._keys: dict[int, tuple[int, ...]] = {}
        self._live: dict[Path, int] = {}
        """Live paths -> turns whose result has been measured."""
        self._candidates: defaultdict[int, list[_Candidate]] = defaultdict(list)
        self._root: PrefixHandle | None = None
        self._unused_sessions: list[ToolSession] = []
        """Of decided candidates, to be closed."""
        self._num_started = 0
        self._num_from_prompt = 0
        self._next_turn = 1

    def start(self) -> None:
        """Begin to grow."""
        self._spawn(self._open())

    async def aclose(self) -> None:
        """Free what is held for paths and branches that will not come: for a group that cannot finish."""
        self._release_root()
        for candidate in [c for turn in self._candidates.values() for c in turn]:
            self._drop(candidate)
        await self._close_unused_sessions()
        for path in self._live:  # started, but cancelled before their first step
            await path.aclose()

    async def _open(self) -> None:
        """Compute the prompt once and start the initial trajectories.

        Raises:
            DataError: the prompt leaves no room for a completion.
        """
        prompt = self._agent.protocol.encode_prompt(self._task)
        limit = self._agent.limits.max_trajectory_tokens
        if len(prompt) >= limit:
            raise DataError(
                f"task {self._task.id!r}: its prompt has {len(prompt)} tokens, max_trajectory_tokens is {limit}; "
                f"raise the limit or drop the task"
            )
        self._tree = RolloutTree.from_prompt(self._task, prompt, self._agent.tokenizer.decode(prompt))
        self._root = await self._agent.engine.prefill(None, prompt)
        self._start_initial(self._rule.plan(self._config.group_size, self._config.num_initial))

    def _start_initial(self, count: int) -> None:
        assert self._root is not None, "the prompt is computed before a path starts"
        for _ in range(count):
            key = (self._num_from_prompt,)
            self._num_from_prompt += 1
            self._start(key, self._tree.root, self._root.fork(), self._agent.executor.open_session())

    def _start(self, key: tuple[int, ...], start: Node, prefix: PrefixHandle, session: ToolSession) -> None:
        path = Path(
            self._agent, self._tree, key=key, start=start, prefix=prefix, session=session,
            temperature=self._config.temperature, seed=derive_seed(self._seed, self._task.id, key),
            entropy_window=self._config.entropy_window, on_window=self._measure,
        )  # fmt: skip
        self._num_started += 1
        self._live[path] = start.turn
        self._spawn(self._run(path))

    async def _run(self, path: Path) -> None:
        """Grow one path; the last one to end tops the group up or finishes it."""
        try:
            await path.run()
        finally:
            del self._live[path]
        self._keys.update(dict.fromkeys(path.node_ids, path.key))
        self._decide_ripe_turns()
        is_last = not self._live
        await self._close_unused_sessions()
        if not is_last:
            return
        if self._num_started < self._config.group_size:
            self._start_initial(self._config.group_size - self._num_started)
        else:
            self._release_root()
            self._on_finished(self, self._tree.renumbered(lambda node: self._keys[node.id]))

    def _measure(self, path: Path, completion: Completion, observed: PrefixHandle) -> None:
        """Compare the window after a tool result with the baseline and keep the place as a candidate for a branch."""
        node = path.node
        baseline = self._tree.path(node)[1].entropies
        assert baseline is not None, "an initial trajectory starts with a completion"
        node.entropy_delta = entropy_delta(
            completion.entropies, baseline, window=self._config.entropy_window,
            normalizer=self._config.entropy_normalizer, vocab_size=self._agent.vocab_size,
        )  # fmt: skip
        opportunity = Opportunity(node=node.id, turn=node.turn, entropy_delta=node.entropy_delta)
        node.branch_score = self._rule.score(opportunity)
        self._live[path] = node.turn
        if self._num_started < self._config.group_size:
            session = path.session.fork()
            self._candidates[node.turn].append(_Candidate(path.key, node, opportunity, observed.fork(), session))
        self._decide_ripe_turns()

    def _decide_ripe_turns(self) -> None:
        """Decide every turn that all live paths have reached, in order; a branch decided here holds back later turns."""
        while self._next_turn in self._candidates and min(self._live.values(), default=self._next_turn) >= self._next_turn:
            self._decide(self._next_turn)
            self._next_turn += 1

    def _decide(self, turn: int) -> None:
        """Grant the rule's requests for one turn by priority, ties in the order of the paths, while leaves are missing."""
        candidates = sorted(self._candidates.pop(turn), key=lambda c: c.key)
        place = {c.node.id: index for index, c in enumerate(candidates)}
        rng = Random(derive_seed(self._seed, self._task.id, "branch", turn))
        requests = self._rule.decide([c.opportunity for c in candidates], rng)
        for request in sorted(requests, key=lambda r: (-r.priority, place[r.node])):
            candidate = candidates[place[request.node]]
            for index in range(min(request.count, self._config.group_size - self._num_started)):
                key = (*candidate.key, turn, index)
                self._start(key, candidate.node, candidate.prefix.fork(), candidate.session.fork())
        for candidate in candidates:
            self._drop(candidate)

    def _drop(self, candidate: _Candidate) -> None:
        candidate.prefix.release()
        self._unused_sessions.append(candidate.session)

    async def _close_unused_sessions(self) -> None:
        while self._unused_sessions:
            await self._unused_sessions.pop().aclose()

    def _release_root(self) -> None:
        if self._root is not None:
            self._root.release()
            self._root = None
