"""One path of a tree: complete, let the environment answer, read that, and again, until the end of the episode or a limit."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from arpo.errors import EngineError, EnvError
from arpo.inference.base import PrefixHandle
from arpo.protocols.base import Tokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.environment import Session
from arpo.seeds import derive_seed
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Completion, Message, Observation, SamplingParams, StopReason, Turn


class Path:
    """Grows one trajectory from a prefix to its leaf, adding nodes to the tree as they are finished."""

    def __init__(
        self,
        agent: Agent,
        tree: RolloutTree,
        *,
        key: tuple[int, ...],
        start: Node,
        prefix: PrefixHandle,
        session: Session | None,
        temperature: float,
        entropy_top_k: int | None,
        seed: int,
        entropy_window: int,
        on_window: Callable[["Path", Completion, PrefixHandle], None] | None,
        on_completion: Callable[["Path", PrefixHandle], None] | None = None,
    ):
        """A path that continues `prefix`, whose last node is `start`: the prompt, an observation, or a completion cut inside.

        Args:
            agent: Engine, protocol, environment and limits.
            tree: Where nodes are added.
            key: Its place among the paths of the tree; also the order of siblings.
            start: The last node of `prefix`.
            prefix: What to continue; the path's own from now on.
            session: The environment of this path, its own from now on; None: `run` opens it.
            temperature: Sampling temperature.
            entropy_top_k: As in `SamplingParams`.
            seed: Names its stream of random numbers.
            entropy_window: Tokens after a tool result that `on_window` wants to see.
            on_window: Called once that many tokens follow a tool result, or the turn has ended before, with the completion so
                far and the prefix that ends with the result, for the callee to fork. None: nobody wants to know.
            on_completion: Called when `node` is a completion just finished, not yet answered, with the prefix that ends
                with it, for the callee to fork. None as above.
        """
        self.key = key
        self.node = start
        self._session = session
        self.node_ids: list[int] = []
        self._agent = agent
        self._tree = tree
        self._prefix = prefix
        self._sampling = SamplingParams(temperature=temperature, entropy_top_k=entropy_top_k)
        self._seed = seed
        self._turn_seed, self._position = seed, 0
        self._entropy_window = entropy_window
        self._on_window = on_window
        self._on_completion = on_completion
        self._is_branch = start.kind is not NodeKind.PROMPT

    @property
    def session(self) -> Session:
        """The environment of this path, as its last turn left it."""
        assert self._session is not None, "it is opened before the first turn"
        return self._session

    async def run(self, open_session: Callable[[], Awaitable[Session]]) -> None:
        """Grow to the leaf; frees what the path holds, also when cancelled. A path without a session opens one first."""
        try:
            self._session = self._session or await open_session()
            while await self._take_turn():
                pass
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Free what the path holds; only for a path that never ran."""
        self._prefix.release()
        if self._session is not None:
            await self._session.aclose()

    async def _take_turn(self) -> bool:
        """One completion and what the environment says to it; False when the path has ended."""
        turn = await self._complete()
        if turn is None:
            return False
        step = await self.session.step(turn)
        self.node.step_reward, self.node.step_metrics = step.reward, dict(step.metrics)
        can_go_on = bool(step.observations) and await self._observe(step.observations)
        self.node.is_done = step.is_done
        return can_go_on and not step.is_done

    async def _complete(self) -> Turn | None:
        """Sample a completion and add its node; None when there is no room for one."""
        kept = [t for n in turn_completions(self._tree, self.node) for t in n.token_ids]
        self._turn_seed, self._position = derive_seed(self._seed, self.node.turn), len(kept)
        limits = self._agent.limits
        room = min(limits.max_turn_tokens - len(kept), limits.max_trajectory_tokens - self._prefix.num_tokens)
        if room < 1:
            return None
        sampling = replace(self._sampling, max_tokens=room)
        on_window = self._on_window if self.node.kind is NodeKind.OBSERVATION and not self._is_branch else None
        completion = await (self._sample_window(sampling, on_window) if on_window else self._sample(sampling))
        text = completion_text(self._agent.tokenizer, completion.token_ids)
        whole = completion_text(self._agent.tokenizer, kept + completion.token_ids) if kept else text
        is_truncated = completion.stop_reason is StopReason.LENGTH
        parse = self._agent.protocol.parse(whole, is_truncated=is_truncated)
        self.node = self._tree.append(
            self.node, NodeKind.COMPLETION, completion.token_ids, text=text, logprobs=completion.logprobs,
            entropies=completion.entropies, stop_reason=completion.stop_reason, parse=parse, is_branch=self._is_branch,
            policy_version=completion.policy_version,
        )  # fmt: skip
        self.node_ids.append(self.node.id)
        self._is_branch = False
        if self._on_completion is not None:
            self._on_completion(self, self._prefix)
        return Turn(text=whole, parse=parse, index=self.node.turn, is_truncated=is_truncated)

    async def _sample_window(
        self, sampling: SamplingParams, on_window: Callable[["Path", Completion, PrefixHandle], None]
    ) -> Completion:
        """A completion that pauses after the entropy window, so that a branch can start while this path goes on."""
        window = replace(sampling, max_tokens=min(self._entropy_window, sampling.max_tokens))
        observed = self._prefix.fork()
        try:
            first = await self._sample(window)
            if first.token_ids:  # a policy that ends its text at once leaves nothing to measure
                on_window(self, first, observed)
        finally:
            observed.release()
        rest = sampling.max_tokens - len(first.token_ids)
        if first.stop_reason is not StopReason.LENGTH or rest == 0:
            return first
        return _joined(first, await self._sample(replace(sampling, max_tokens=rest)))

    async def _sample(self, sampling: SamplingParams) -> Completion:
        completion, prefix = await self._agent.engine.generate(
            self._prefix, sampling, seed=self._turn_seed, position=self._position, stop=self._agent.protocol.stop_strings
        )
        self._position += len(completion.token_ids)
        self._move_to(prefix)
        return completion

    async def _observe(self, observations: Sequence[Observation]) -> bool:
        """Add the node that shows some observations; False when it does not leave room for another token.

        Raises:
            EnvError: there are more of them on the path than the environment said there can be.
        """
        bound = self._agent.environment.max_observations
        if bound is not None and self.node.turn >= bound:
            raise EnvError(
                f"task {self._tree.task.id!r}: its environment answered turn {self.node.turn + 1} of a path, but says "
                f"max_observations = {bound}, by which top-ups are started; raise that, or set it to None"
            )
        token_ids = self._agent.protocol.encode_observation(*observations)
        if self._prefix.num_tokens + len(token_ids) >= self._agent.limits.max_trajectory_tokens:
            return False
        self._move_to(await self._agent.engine.prefill(self._prefix, token_ids))
        text = self._agent.tokenizer.decode(token_ids)
        results = tuple(o.result for o in observations if o.result is not None)
        messages = tuple(Message(role=o.role, content=o.content) for o in observations if o.result is None)
        self.node = self._tree.append(self.node, NodeKind.OBSERVATION, token_ids, text=text, results=results, messages=messages)
        self.node_ids.append(self.node.id)
        return True

    def _move_to(self, prefix: PrefixHandle) -> None:
        self._prefix.release()
        self._prefix = prefix


def turn_completions(tree: RolloutTree, node: Node) -> list[Node]:
    """The completion that ends with `node`, in order: several nodes where it was cut for forks, none if `node` is none."""
    parts: list[Node] = []
    while node.is_sampled:
        assert node.parent is not None, "a completion has a parent"
        parts.append(node)
        node = tree.nodes[node.parent]
    return parts[::-1]


def _joined(first: Completion, second: Completion) -> Completion:
    """A paused completion and its rest as one, of one version of the weights, as every node is."""
    if first.policy_version != second.policy_version:
        raise EngineError(
            f"a completion was begun by version {first.policy_version} of the weights and continued by version "
            f"{second.policy_version}: the engine took an update while prefixes were held"
        )
    return replace(
        second,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
        entropies=first.entropies + second.entropies,
    )


def completion_text(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """Sampled ids as text, without the end of sequence."""
    return tokenizer.decode([t for t in token_ids if t not in tokenizer.eos_ids])
