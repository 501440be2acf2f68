"""One task's group: its initial trajectories, the branches they earn, and the top-ups that make the group whole.

Logical time makes competition for the branch budget exact. The opportunities of turn t are decided once every path that may
branch has its turn-t result measured or has ended; originals go on meanwhile, so nothing waits and the tree does not depend on
latency. Fresh trajectories that fill the group (top-ups) do not take part: they start as soon as it is certain that no branch
can take their place, which depends on the decisions alone, whenever it becomes known.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from random import Random

from arpo.errors import DataError, EnvError
from arpo.inference.base import PrefixHandle
from arpo.rollout.agent import Agent
from arpo.rollout.branch_history import BranchHistory
from arpo.rollout.config import RolloutConfig
from arpo.rollout.entropy import entropy_delta, normalizer_value, token_entropies
from arpo.rollout.environment import Session
from arpo.rollout.path import Path, completion_text, turn_completions
from arpo.rollout.rules import BranchRule, CompletionView, ForkRequest, Opportunity, Probe
from arpo.seeds import derive_seed
from arpo.tree import Node, RolloutTree
from arpo.types import Completion, Message, Task


@dataclass(slots=True, frozen=True)
class _Candidate:
    """An observation where paths may fork, with what a branch would start from."""

    key: tuple[int, ...]
    node: Node
    entropies: tuple[float, ...]
    """Of the first tokens after it."""
    session: Session
    prefix: PrefixHandle


@dataclass(slots=True, frozen=True)
class _Held:
    """A finished completion inside which paths may fork."""

    node: Node
    session: Session
    """As it was during the completion."""
    prefix: PrefixHandle
    """Ends with the completion, or later."""


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
        on_finished: Callable[[RolloutTree], None],
        tops_up: bool = True,
    ):
        """A group for `task`.

        Args:
            agent: Engine, protocol, environment and limits.
            config: Sizes, entropy measurement, temperature.
            rule: Where to branch.
            task: What to answer.
            seed: Names the random streams, together with the task's id.
            spawn: Starts a coroutine that counts as the engine's participant from this call to its end.
            on_finished: Called with the finished tree, before the last path stops participating.
            tops_up: False leaves a group small whose paths end early; the study of bias measures what top-ups do.
        """
        self._agent = agent
        self._config = config
        self._rule = rule
        self._task = task
        self._seed = seed
        self._spawn = spawn
        self._on_finished = on_finished
        self._tops_up = tops_up
        self._history = BranchHistory()
        self._keys: dict[int, tuple[int, ...]] = {}
        """Node ids -> the path that added them."""
        self._growing: dict[Path, int] = {}
        """Live paths that may branch -> turns whose result has been measured."""
        self._topups: set[Path] = set()
        """Live paths that fill the group."""
        self._candidates: defaultdict[int, list[_Candidate]] = defaultdict(list)
        self._held: list[_Held] = []
        self._root: PrefixHandle | None = None
        self._first_session: Session | None = None
        """Opened for its messages, until the first path takes it."""
        self._messages: tuple[Message, ...] | None = None
        """What the environment adds to the prompt; None until it is asked."""
        self._unused_sessions: list[Session] = []
        """Of what was decided, to be closed."""
        self._num_initial: int | None = None
        """None until the rule knows."""
        self._is_broken = False  # a path failed: whatever ends after it, this group does not finish
        self._started = 0.0
        self._num_started = 0
        self._num_from_prompt = 0

    def start(self) -> None:
        """Begin to grow."""
        self._started = time.monotonic()
        self._spawn(self._open())

    async def aclose(self) -> None:
        """Free what is held for paths and branches that will not come: for a group that cannot finish."""
        self._release_root()
        for candidate in [c for turn in self._candidates.values() for c in turn]:
            self._drop(candidate)
        self._candidates.clear()
        self._drop_held()
        if self._first_session is not None:
            self._unused_sessions.append(self._first_session)
        await self._close_unused_sessions()
        for path in [*self._growing, *self._topups]:  # started, but cancelled before their first step
            await path.aclose()

    @property
    def _num_missing(self) -> int:
        return self._config.group_size - self._num_started

    async def _open(self) -> None:
        """Compute the prompt once and start the initial trajectories, or the probe that tells how many there are to be.

        Raises:
            DataError: the prompt leaves no room for a completion.
        """
        self._first_session = await self._open_session()
        task = self._with_messages(self._first_session)
        prompt = self._agent.protocol.encode_prompt(task)
        limit = self._agent.limits.max_trajectory_tokens
        if len(prompt) >= limit:
            raise DataError(
                f"task {self._task.id!r}: its prompt has {len(prompt)} tokens, max_trajectory_tokens is {limit}; "
                f"raise the limit or drop the task"
            )
        self._tree = RolloutTree.from_prompt(task, prompt, self._agent.tokenizer.decode(prompt))
        self._root = await self._agent.engine.prefill(None, prompt)
        self._num_initial = self._rule.plan(self._config.group_size, self._config.num_initial_trajectories, None)
        self._start_fresh(self._num_initial or 1)

    def _start_fresh(self, count: int, *, are_topups: bool = False) -> None:
        assert self._root is not None, "the prompt is computed before a path starts"
        for _ in range(count):
            key = (self._num_from_prompt,)
            self._num_from_prompt += 1
            session, self._first_session = self._first_session, None
            self._start(key, self._tree.root, session, self._root.fork(), is_topup=are_topups)

    async def _open_session(self) -> Session:
        """A session of the task.

        Raises:
            EnvError: it begins with other messages than the first one, so that its path has another prompt.
        """
        session = await self._agent.environment.open(self._task, derive_seed(self._seed, self._task.id, "environment"))
        if self._messages is None:
            self._messages = session.messages
        elif session.messages != self._messages:
            await session.aclose()
            raise EnvError(
                f"task {self._task.id!r}: its environment began with {session.messages} after it had begun with "
                f"{self._messages}; trajectories of one task share their prompt, so open(task, seed) must give the same "
                f"messages for the same task and seed"
            )
        return session

    def _with_messages(self, session: Session) -> Task:
        """The task with what the environment adds to its prompt; no control token can arise from that."""
        if not session.messages:
            return self._task
        defuse = self._agent.tokenizer.defuse
        added = (replace(message, content=defuse(message.content)) for message in session.messages)
        return replace(self._task, messages=(*self._task.messages, *added))

    def _start(
        self, key: tuple[int, ...], start: Node, session: Session | None, prefix: PrefixHandle, *, is_topup: bool = False
    ) -> None:
        path = Path(
            self._agent, self._tree, key=key, start=start, prefix=prefix, session=session,
            temperature=self._config.temperature, entropy_top_k=self._config.top_k,
            seed=derive_seed(self._seed, self._task.id, key), entropy_window=self._config.entropy_window,
            on_window=self._measure if self._agent.engine.entropy_estimators else None,
            on_completion=self._hold if self._rule.forks_inside and not is_topup else None,
        )  # fmt: skip
        self._num_started += 1
        if is_topup:
            self._topups.add(path)
        else:
            self._growing[path] = start.turn
        self._spawn(self._run(path))

    async def _run(self, path: Path) -> None:
        """Grow one path; the last one to end finishes the group."""
        try:
            await path.run(self._open_session)
        except BaseException:  # raised again, cancellation too
            self._is_broken = True
            raise
        finally:
            self._growing.pop(path, None)
            self._topups.discard(path)
        self._keys.update(dict.fromkeys(path.node_ids, path.key))
        if self._num_initial is None:
            self._num_initial = self._rule.plan(
                self._config.group_size, self._config.num_initial_trajectories, self._probe(path)
            )
            assert self._num_initial is not None, "a rule that asked for a probe plans with it"
            self._start_fresh(self._num_initial - 1)
        self._settle()
        is_last = not (self._growing or self._topups or self._is_broken)
        await self._close_unused_sessions()
        if is_last:
            self._release_root()
            self._tree.settings = self._settings()
            self._tree.seconds = round(time.monotonic() - self._started, 4)
            self._on_finished(self._tree.renumbered(lambda node: self._keys[node.id]))

    def _settle(self) -> None:
        """Decide what can be decided, and start the top-ups whose places no branch can take any more."""
        if self._num_initial is None:
            return
        self._decide_ripe_turns()
        if self._rule.forks_inside and not self._growing:
            self._fork_inside()
        if self._tops_up:
            self._start_fresh(self._num_missing - self._most_branches(), are_topups=True)

    def _most_branches(self) -> int:
        """A bound on the new paths that branching can still bring.

        With Z new paths per opportunity, a path that may read r more observations can bring (1 + Z)^r - 1: each opportunity
        multiplies the paths there are by 1 + Z. Where r has no bound, any path that may branch can fill the group.

        Example: Z = 1, one live path with two opportunities left: 3. With five leaves missing, two top-ups start at once.
        """
        last_turn, factor = self._agent.environment.max_observations, 1 + self._rule.max_branches
        if self._rule.forks_inside or (last_turn is None and factor > 1):
            return self._config.group_size if self._growing else 0
        last_turn = last_turn or 0
        live = sum(factor ** (last_turn - turn) - 1 for turn in self._growing.values())
        waiting = sum(len(c) * (factor - 1) * factor ** (last_turn - turn) for turn, c in self._candidates.items())
        return live + waiting

    def _measure(self, path: Path, completion: Completion, observed: PrefixHandle) -> None:
        """Compare the window after a tool result with the baseline and keep the place as a candidate for a branch."""
        node, window = path.node, self._config.entropy_window
        entropies = self._window([completion])
        node.entropy_delta = entropy_delta(
            entropies, self._initial_window(node), window=window,
            normalizer=self._config.entropy_normalizer, vocab_size=self._agent.tokenizer.vocab_size,
        )  # fmt: skip
        if path in self._topups:
            return
        self._growing[path] = node.turn
        if self._num_missing > 0:
            candidate = _Candidate(path.key, node, entropies, path.session.fork(), observed.fork())
            self._candidates[node.turn].append(candidate)
        self._settle()

    def _decide_ripe_turns(self) -> None:
        """Decide every turn that all growing paths have reached, in order; a branch decided here holds back later turns."""
        while self._candidates and (turn := min(self._candidates)) <= min(self._growing.values(), default=turn):
            candidates = sorted(self._candidates.pop(turn), key=lambda c: c.key)
            self._decide(turn, candidates)
            for candidate in candidates:
                self._drop(candidate)

    def _decide(self, turn: int, candidates: list[_Candidate]) -> None:
        """Grant the rule's requests for one turn by priority, ties in the order of the paths, while leaves are missing."""
        if self._num_missing == 0:
            return
        opportunities = [self._opportunity(c) for c in candidates]
        for candidate, opportunity in zip(candidates, opportunities, strict=True):
            candidate.node.branch_score = self._rule.score(opportunity)
        rng = Random(derive_seed(self._seed, self._task.id, "branch", turn))
        at = {c.node.id: c for c in candidates}
        for request, count in self._grant(self._rule.decide(opportunities, rng)):
            candidate = at[request.node]
            self._history.record_fork(candidate.node)
            for index in range(count):
                key = (*candidate.key, turn, index)
                self._start(key, candidate.node, candidate.session.fork(), candidate.prefix.fork())

    def _grant(self, requests: list[ForkRequest]) -> list[tuple[ForkRequest, int]]:
        """The requests the missing leaves suffice for, by priority, and how many paths each gets."""
        granted: list[tuple[ForkRequest, int]] = []
        left = self._num_missing
        for request in sorted(requests, key=lambda r: -r.priority):
            count = min(request.count, left)
            left -= count
            if count:
                granted.append((request, count))
        return granted

    def _opportunity(self, candidate: _Candidate) -> Opportunity:
        """What the rule may know of a candidate; its entropy joins what later ones are told."""
        node = candidate.node
        assert node.entropy_delta is not None and node.parent is not None, "an observation that was measured"  # noqa: PT018
        opportunity = Opportunity(
            node=node.id,
            turn=node.turn,
            entropies=candidate.entropies,
            call_entropies=self._window(turn_completions(self._tree, self._tree.nodes[node.parent])),
            initial_entropies=self._initial_window(node),
            entropy_delta=node.entropy_delta,
            normalizer=self._normalizer,
            recent_entropies=tuple(self._history.entropies),
            consecutive_branches=self._history.consecutive_branches(self._tree, node),
            consecutive_turns=self._history.consecutive_turns(node.turn),
        )
        self._history.entropies.append(opportunity.entropy)
        return opportunity

    def _probe(self, path: Path) -> Probe:
        completions = [n for n in self._tree.path(path.node) if n.is_sampled]
        return Probe(windows=tuple(self._window([n]) for n in completions), normalizer=self._normalizer)

    def _initial_window(self, node: Node) -> tuple[float, ...]:
        """The window at the start of the initial trajectory that `node` descends from."""
        first_turn = [n for n in self._tree.path(node) if n.is_sampled and n.turn == 0]
        return self._window(first_turn)

    def _window(self, parts: "list[Completion] | list[Node]") -> tuple[float, ...]:
        is_surprisal = self._config.entropy_estimator == "surprisal"
        entropies = [x for part in parts for x in token_entropies(part, is_surprisal)]
        return tuple(entropies[: self._config.entropy_window])

    @property
    def _normalizer(self) -> float:
        return normalizer_value(self._config.entropy_normalizer, self._agent.tokenizer.vocab_size)

    def _hold(self, path: Path, prefix: PrefixHandle) -> None:
        """Keep what a fork inside the completion just finished would start from."""
        if self._num_missing > 0:
            self._held.append(_Held(path.node, path.session.fork(), prefix.fork()))

    def _fork_inside(self) -> None:
        """Let the rule fork the completions of the paths that have ended, while leaves are missing."""
        if self._num_missing > 0:
            self._held.sort(key=lambda held: (self._keys[held.node.id], self._num_tokens_before(held.node)))
            is_surprisal = self._config.entropy_estimator == "surprisal"
            views = [CompletionView(node=h.node.id, entropies=tuple(token_entropies(h.node, is_surprisal))) for h in self._held]
            rng = Random(derive_seed(self._seed, self._task.id, "inside", self._num_missing))
            granted = self._grant(self._rule.decide_inside(views, self._num_missing, rng))
            for held in list(self._held):
                self._cut(held, {r.offset or 0: count for r, count in granted if r.node == held.node.id})
        if self._num_missing == 0:
            self._drop_held()

    def _cut(self, held: _Held, counts: dict[int, int]) -> None:
        """Cut a completion at some offsets and start new paths at each cut: offset -> number of paths."""
        done = 0
        for offset in sorted(counts):
            node = self._tree.split(held.node, offset - done)
            rest = self._tree.nodes[self._tree.children[node.id][0]]
            node.text, rest.text = (completion_text(self._agent.tokenizer, n.token_ids) for n in (node, rest))
            self._keys[rest.id] = self._keys[node.id]
            num_tokens = self._num_tokens_before(rest)
            kept = [t for n in turn_completions(self._tree, node) for t in n.token_ids]
            for index in range(counts[offset]):
                key = (*self._keys[node.id], num_tokens, index)
                self._start(key, node, held.session.fork(), held.prefix.truncate(num_tokens, kept))
            held, done = _Held(rest, held.session.fork(), held.prefix.fork()), offset
            self._held.append(held)

    def _num_tokens_before(self, node: Node) -> int:
        return sum(len(n.token_ids) for n in self._tree.path(node)[:-1])

    def _settings(self) -> dict[str, object]:
        config = self._config
        return {
            "rule": config.rule.type,
            "num_initial": self._num_initial,
            "temperature": config.temperature,
            "entropy_estimator": config.entropy_estimator,
            "entropy_top_k": config.top_k,
            "entropy_window": config.entropy_window,
            "entropy_normalizer": config.entropy_normalizer,
        }

    def _drop(self, kept: _Candidate | _Held) -> None:
        kept.prefix.release()
        self._unused_sessions.append(kept.session)

    def _drop_held(self) -> None:
        while self._held:
            self._drop(self._held.pop())

    async def _close_unused_sessions(self) -> None:
        while self._unused_sessions:
            await self._unused_sessions.pop().aclose()

    def _release_root(self) -> None:
        if self._root is not None:
            self._root.release()
            self._root = None
