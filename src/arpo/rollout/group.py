"""One task's group: initial trajectories, branches, and the top-ups that fill it.

Logical time makes competition for the branch budget exact. The opportunities of turn t are decided once every path that may
branch has its turn-t result measured or has ended; originals go on meanwhile, so nothing waits and the tree does not depend on
latency. Fresh trajectories that fill the group (top-ups) do not compete: they start as soon as no branch can fill the leaf they
stand for. That depends on the decisions alone, not on the time at which it becomes known. With a rule whose fills branch, they
start one at a time, each once all paths have ended, and grow as the initial trajectories did.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import Random
from statistics import fmean

from arpo.errors import DataError, EnvError
from arpo.inference.base import PrefixHandle
from arpo.rollout.agent import Agent
from arpo.rollout.branch_history import BranchHistory
from arpo.rollout.config import RolloutConfig
from arpo.rollout.environment import Session
from arpo.rollout.opportunities import EntropyReader, ForkPoint
from arpo.rollout.path import Path, completion_text, turn_token_ids
from arpo.rollout.rules import BranchRule, ForkRequest, NodeView, PastGroups, Probe
from arpo.seeds import derive_seed
from arpo.tree import Node, RolloutTree
from arpo.types import Completion, Message, Task


class Group:
    """Samples the tree of one task, with exactly `group_size` leaves."""

    def __init__(
        self,
        agent: Agent,
        config: RolloutConfig,
        rule: BranchRule,
        task: Task,
        *,
        seed: int,
        past: PastGroups,
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
            past: The task's groups in earlier steps, for a rule that plans by them.
            spawn: Starts a coroutine that counts as the engine's participant from this call to its end.
            on_finished: Called with the finished tree, before the last path stops participating.
            tops_up: False: no top-ups, so a group stays smaller where paths end early, as the study of bias needs it.
        """
        self._agent = agent
        self._config = config
        self._rule = rule
        self._task = task
        self._seed = seed
        self._past = past
        self._spawn = spawn
        self._on_finished = on_finished
        self._tops_up = tops_up
        self._history = BranchHistory()
        self._keys: dict[int, tuple[int, ...]] = {}
        """Node id -> key of the path that added it; set when the path has ended."""
        self._growing: dict[Path, int] = {}
        """Live paths that may branch -> turns whose result has been measured."""
        self._last_turn = 0
        """Most turns with a result of the paths that have ended since the last fill."""
        self._topups: set[Path] = set()
        """Live paths that fill the group."""
        self._candidates: defaultdict[int, list[ForkPoint]] = defaultdict(list)
        """Turn -> observations that wait for the decision."""
        self._completions: list[ForkPoint] = []
        """Finished completions, for a rule that forks inside them."""
        self._nodes: dict[tuple[int, int], ForkPoint] = {}
        """(tree, node id) -> prompts and observations after which a step began, for a rule that forks there late."""
        self._num_late = 0
        """Paths started at such nodes."""
        self._root: PrefixHandle | None = None
        self._messages: tuple[Message, ...] | None = None
        """Messages the environment adds to the prompt; None until a session is open."""
        self._unused_sessions: list[Session] = []
        """Sessions to close, as no path takes them any more."""
        self._num_initial: int | None = None
        """None until the rule has planned."""
        self._is_broken = False  # True once a path has failed; the group then does not finish
        self._started = 0.0
        self._num_started = 0
        self._num_from_prompt = 0

    def start(self) -> None:
        """Start the first path or paths."""
        self._started = time.monotonic()
        self._spawn(self._open())

    async def aclose(self) -> None:
        """Free everything the group holds; for a group that cannot finish."""
        self._release_root()
        for points in (*self._candidates.values(), self._completions, [*self._nodes.values()]):
            self._release(points)
        self._nodes.clear()
        await self._close_unused_sessions()
        for path in [*self._growing, *self._topups]:  # started, but cancelled before their first step
            await path.aclose()

    @property
    def _num_missing(self) -> int:
        return self._config.group_size - self._num_started

    async def _open(self) -> None:
        """Compute the prompt once and start the initial trajectories, or the probe that determines their number.

        Raises:
            DataError: the prompt leaves no room for a completion.
        """
        session = await self._open_session()
        self._unused_sessions.append(session)  # until the first path takes it
        task = self._with_messages(session)
        prompt = self._agent.protocol.encode_prompt(task)
        limit = self._agent.limits.max_trajectory_tokens
        if len(prompt) >= limit:
            raise DataError(
                f"task {self._task.id!r}: its prompt has {len(prompt)} tokens, max_trajectory_tokens is {limit}; "
                f"raise the limit or drop the task"
            )
        self._tree = RolloutTree.from_prompt(task, prompt, self._agent.tokenizer.decode(prompt))
        self._entropies = EntropyReader(self._config, self._tree, self._agent.tokenizer.vocab_size)
        self._root = await self._agent.engine.prefill(None, prompt)
        self._num_initial = self._plan(None)
        self._start_fresh(self._num_initial or 1)

    def _plan(self, probe: Probe | None) -> int | None:
        return self._rule.plan(self._config.group_size, self._config.num_initial_trajectories, probe, self._past)

    def _start_fresh(self, count: int, *, are_topups: bool = False) -> None:
        assert self._root is not None, "the prompt is computed before a path starts"
        for _ in range(count):
            session = self._unused_sessions.pop() if self._num_from_prompt == 0 else None
            self._start((self._num_from_prompt,), self._tree.root, session, self._root.fork(), is_topup=are_topups)
            self._num_from_prompt += 1

    async def _open_session(self) -> Session:
        """A session of the task.

        Raises:
            EnvError: it begins with other messages than the task's first session, so that its path has another prompt.
        """
        session = await self._agent.environment.open(self._task, derive_seed(self._seed, self._task.id, "environment"))
        if self._messages is None:
            self._messages = session.messages
        elif session.messages != self._messages:
            await session.aclose()
            raise EnvError(
                f"task {self._task.id!r}: its environment began with {session.messages} after it had begun with "
                f"{self._messages}; trajectories of one task share their prompt, so open(task, seed) must return the same "
                f"messages for the same task and seed"
            )
        return session

    def _with_messages(self, session: Session) -> Task:
        """The task with the environment's messages in its prompt, defused so that they hold no control token."""
        if not session.messages:
            return self._task
        defuse = self._agent.tokenizer.defuse
        added = (replace(message, content=defuse(message.content)) for message in session.messages)
        return replace(self._task, messages=(*self._task.messages, *added))

    def _start(
        self, key: tuple[int, ...], start: Node, session: Session | None, prefix: PrefixHandle, *, is_topup: bool = False
    ) -> None:
        path = Path(
            self._agent, self._config, self._tree, key=key, start=start, prefix=prefix, session=session,
            seed=derive_seed(self._seed, self._task.id, key),
            on_window=self._measure if self._agent.engine.entropy_estimators else None,
            on_completion=self._keep if self._rule.forks_inside and not is_topup else None,
            on_step=self._keep_node if self._rule.forks_at_nodes else None,
        )  # fmt: skip
        self._num_started += 1
        if is_topup:
            self._topups.add(path)
        else:
            self._growing[path] = start.turn
        self._spawn(self._run(path))

    async def _run(self, path: Path) -> None:
        """Run one path; the last one to end finishes the group."""
        try:
            await path.run(self._open_session)
        except BaseException:  # raised again, cancellation too
            self._is_broken = True
            raise
        finally:
            self._growing.pop(path, None)
            self._topups.discard(path)
        self._keys.update(dict.fromkeys(path.node_ids, path.key))
        self._last_turn = max(self._last_turn, path.node.turn)
        if self._num_initial is None:
            self._num_initial = self._plan(self._entropies.probe(path.node))
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
        """Decide the turns that are complete, and start the top-ups for leaves that no branch can fill any more."""
        if self._num_initial is None:
            return
        self._decide_ripe_turns()
        if self._rule.forks_inside and not self._growing:
            self._fork_inside()
        if self._rule.forks_at_nodes and not self._growing:
            self._fork_at_nodes()
        if self._tops_up and self._rule.fills_branch:
            self._start_fill()
        elif self._tops_up:
            self._start_fresh(self._num_missing - self._most_branches(), are_topups=True)

    def _start_fill(self) -> None:
        """Start one fresh trajectory that may branch, once every path has ended and leaves are missing."""
        if not self._growing and self._num_missing > 0:
            self._history.record_fill(self._last_turn)
            self._last_turn = 0
            self._start_fresh(1)

    def _most_branches(self) -> int:
        """An upper bound on the new paths that branching can still bring.

        With Z new paths per opportunity, a path that may read r more observations can bring (1 + Z)^r - 1: each opportunity
        multiplies the paths there are by 1 + Z. Where r has no bound, any path that may branch can fill the group.

        Example: Z = 1, one live path with two opportunities left: 3. With five leaves missing, two top-ups start at once.
        """
        last_turn, factor = self._agent.environment.max_observations, 1 + self._rule.max_branches
        forks_late = self._rule.forks_inside or self._rule.forks_at_nodes
        if factor == 1 and not forks_late:
            return 0
        if last_turn is None or forks_late:
            return self._config.group_size if self._growing else 0
        live = sum(factor ** (last_turn - turn) - 1 for turn in self._growing.values())
        waiting = sum(len(c) * (factor - 1) * factor ** (last_turn - turn) for turn, c in self._candidates.items())
        return live + waiting

    def _measure(self, path: Path, completion: Completion, observed: PrefixHandle) -> None:
        """Compare the window after a tool result with the baseline, and keep the observation as a candidate for a branch."""
        node, entropies = path.node, self._entropies.window(completion)
        node.entropy_delta = self._entropies.delta(node, entropies)
        if path in self._topups:
            return
        self._growing[path] = node.turn
        if self._num_missing > 0 and node.entropy_delta is not None:
            self._candidates[node.turn].append(ForkPoint(node, path.key, path.session.fork(), observed.fork(), entropies))
        self._settle()

    def _decide_ripe_turns(self) -> None:
        """Decide every turn that all growing paths have reached, in order; a branch decided here holds back later turns."""
        while self._candidates and (turn := min(self._candidates)) <= min(self._growing.values(), default=turn):
            candidates = sorted(self._candidates.pop(turn), key=lambda c: c.key)
            if self._num_missing:
                self._decide(turn, candidates)
            self._release(candidates)

    def _decide(self, turn: int, candidates: list[ForkPoint]) -> None:
        """Grant the rule's requests for one turn by priority, ties in the order of the paths, while leaves are missing."""
        self._history.entropies.append(tuple(fmean(candidate.entropies) for candidate in candidates))
        opportunities = [self._entropies.opportunity(candidate, self._history) for candidate in candidates]
        for candidate, opportunity in zip(candidates, opportunities, strict=True):
            candidate.node.branch_score = self._rule.score(opportunity)
        rng = Random(derive_seed(self._seed, self._task.id, "branch", self._history.round_of(turn)))
        by_node = {c.node.id: c for c in candidates}
        requests = self._rule.decide(opportunities, rng)
        for candidate in candidates if self._rule.max_branches else ():
            candidate.node.branches_requested = sum(r.count for r in requests if r.node == candidate.node.id)
        for request, count in self._grant(requests):
            candidate = by_node[request.node]
            self._history.record_fork(candidate.node)
            for index in range(count):
                key = (*candidate.key, turn, index)
                self._start(key, candidate.node, candidate.session.fork(), candidate.prefix.fork())

    def _grant(self, requests: list[ForkRequest]) -> list[tuple[ForkRequest, int]]:
        """The granted requests by priority, each with its number of paths, at most as many as leaves are missing."""
        granted: list[tuple[ForkRequest, int]] = []
        missing = self._num_missing
        for request in sorted(requests, key=lambda r: -r.priority):
            count = min(request.count, missing)
            missing -= count
            if count:
                granted.append((request, count))
        return granted

    def _keep(self, path: Path, prefix: PrefixHandle) -> None:
        """Keep the completion just finished, to fork inside it later."""
        if self._num_missing > 0:
            self._completions.append(ForkPoint(path.node, path.key, path.session.fork(), prefix.fork()))

    def _fork_inside(self) -> None:
        """Let the rule fork the completions of the paths that have ended, while leaves are missing."""
        if self._num_missing > 0:
            self._completions.sort(key=lambda c: (c.key, self._num_tokens_before(c.node)))
            views = [self._entropies.completion(c) for c in self._completions]
            rng = Random(derive_seed(self._seed, self._task.id, "inside", self._num_missing))
            granted = self._grant(self._rule.decide_inside(views, self._num_missing, rng))
            for completion in list(self._completions):
                self._cut(completion, {r.offset or 0: count for r, count in granted if r.node == completion.node.id})
        if self._num_missing == 0:
            self._release(self._completions)

    def _cut(self, completion: ForkPoint, counts: dict[int, int]) -> None:
        """Cut a completion at some offsets and start new paths at each cut: offset -> number of paths."""
        done = 0
        for offset in sorted(counts):
            node = self._tree.split(completion.node, offset - done)
            rest = self._tree.nodes[self._tree.children[node.id][0]]
            node.text, rest.text = (completion_text(self._agent.tokenizer, n.token_ids) for n in (node, rest))
            self._keys[rest.id] = completion.key
            num_tokens = self._num_tokens_before(rest)
            begun = turn_token_ids(self._tree, node)
            for index in range(counts[offset]):
                key = (*completion.key, num_tokens, index)
                self._start(key, node, completion.session.fork(), completion.prefix.truncate(num_tokens, begun))
            completion, done = (
                replace(completion, node=rest, session=completion.session.fork(), prefix=completion.prefix.fork()),
                offset,
            )
            self._completions.append(completion)

    def _keep_node(self, path: Path, prefix: PrefixHandle) -> None:
        """Keep the node before a step, to fork there later; a node of one tree is kept once."""
        name = (path.key[0], path.node.id)
        if self._num_missing > 0 and name not in self._nodes:
            self._nodes[name] = ForkPoint(path.node, path.key, path.session.fork(), prefix.fork())

    def _fork_at_nodes(self) -> None:
        """Let the rule fork at nodes of the paths that have ended, while leaves are missing."""
        missing = self._num_missing
        if missing > 0:
            points = sorted(self._nodes.values(), key=lambda p: (p.key[0], p.node.turn, p.key))
            views = [NodeView(tree=point.key[0], turn=point.node.turn) for point in points]
            rng = Random(derive_seed(self._seed, self._task.id, "nodes", missing))
            for position in self._rule.choose_nodes(views, missing, rng)[:missing]:
                point = points[position]
                key = (*point.key, point.node.turn, self._num_late)
                self._num_late += 1
                self._start(key, point.node, point.session.fork(), point.prefix.fork())
        if self._num_missing == 0:
            self._release([*self._nodes.values()])
            self._nodes.clear()

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

    def _release(self, points: list[ForkPoint]) -> None:
        while points:
            point = points.pop()
            point.prefix.release()
            self._unused_sessions.append(point.session)

    async def _close_unused_sessions(self) -> None:
        while self._unused_sessions:
            await self._unused_sessions.pop().aclose()

    def _release_root(self) -> None:
        if self._root is not None:
            self._root.release()
            self._root = None
