"""One path of a tree: turns of completion, answer of the environment and observation, until a limit or the episode's end."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from arpo.errors import EngineError, EnvError
from arpo.inference.base import PrefixHandle
from arpo.protocols.base import Tokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.config import RolloutConfig
from arpo.rollout.environment import Session
from arpo.seeds import derive_seed
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Completion, Message, Observation, SamplingParams, StopReason, Turn


class Path:
    """Grows one trajectory from a prefix to its leaf, adding nodes to the tree as they are finished."""

    def __init__(
        self,
        agent: Agent,
        config: RolloutConfig,
        tree: RolloutTree,
        *,
        key: tuple[int, ...],
        start: Node,
        prefix: PrefixHandle,
        session: Session | None,
        seed: int,
        on_window: Callable[["Path", Completion, PrefixHandle], None] | None,
        on_completion: Callable[["Path", PrefixHandle], None] | None = None,
        on_step: Callable[["Path", PrefixHandle], None] | None = None,
    ):
        """A path that continues `prefix`, whose last node is `start`: the prompt, an observation, or a completion cut inside.

        Args:
            agent: Engine, protocol, environment and limits.
            config: Temperature, entropy window and `top_k`.
            tree: Gets the path's nodes.
            key: Names the path in its tree and orders siblings.
            start: The last node of `prefix`.
            prefix: The prefix to continue; the path releases it.
            session: The environment session of this path, which closes it; None: `run` opens it.
            seed: Names the path's stream of random numbers.
            on_window: Called once `entropy_window` tokens follow a tool result, or the turn has ended before, with the
                completion so far and the prefix that ends with the result; the callee forks what it keeps. None: no call.
            on_completion: Called when `node` is a finished completion that the environment has not answered, with the prefix
                that ends with it; the callee forks what it keeps. None: no call.
            on_step: Called before each step, with the prefix that ends with `node`, the prompt or an observation; the callee
                forks what it keeps. None: no call.
        """
        self.key = key
        self.node = start
        self.node_ids: list[int] = []
        self._session = session
        self._agent = agent
        self._config = config
        self._tree = tree
        self._prefix = prefix
        self._seed = seed
        self._turn_seed, self._position = seed, 0
        self._on_window = on_window
        self._on_completion = on_completion
        self._on_step = on_step
        self._is_branch = len(key) > 1

    @property
    def session(self) -> Session:
        """The environment session of this path after its last turn."""
        assert self._session is not None, "it is opened before the first turn"
        return self._session

    async def run(self, open_session: Callable[[], Awaitable[Session]]) -> None:
        """Sample up to the leaf, then free prefix and session, also when cancelled. Opens a session if the path has none."""
        try:
            self._session = self._session or await open_session()
            while await self._take_turn():
                pass
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Free prefix and session; only for a path that never ran."""
        self._prefix.release()
        if self._session is not None:
            await self._session.aclose()

    async def _take_turn(self) -> bool:
        """One completion and the environment's answer; False when the path has ended."""
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
        begun = turn_token_ids(self._tree, self.node)
        self._turn_seed, self._position = derive_seed(self._seed, self.node.turn), len(begun)
        limits = self._agent.limits
        room = min(limits.max_turn_tokens - len(begun), limits.max_trajectory_tokens - self._prefix.num_tokens)
        if room < 1:
            return None
        config = self._config
        sampling = SamplingParams(temperature=config.temperature, max_tokens=room, entropy_top_k=config.top_k)
        on_window = self._on_window if self.node.kind is NodeKind.OBSERVATION and not self._is_branch else None
        if self._on_step is not None:
            self._on_step(self, self._prefix)
        completion = await (self._sample_window(sampling, on_window) if on_window else self._sample(sampling))
        text = completion_text(self._agent.tokenizer, completion.token_ids)
        whole = completion_text(self._agent.tokenizer, begun + completion.token_ids) if begun else text
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
        window = replace(sampling, max_tokens=min(self._config.entropy_window, sampling.max_tokens))
        observed = self._prefix.fork()
        try:
            first = await self._sample(window)
            if first.token_ids:  # nothing can be measured where the policy ends its text at once
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
        """Add the node that shows some observations; False when no room for another token would be left.

        Raises:
            EnvError: the path has more observed turns than the environment's `max_observations`.
        """
        bound = self._agent.environment.max_observations
        if bound is not None and self.node.turn >= bound:
            raise EnvError(
                f"task {self._tree.task.id!r}: its environment answered turn {self.node.turn + 1} of a path, but its "
                f"max_observations = {bound} decides when top-ups start; raise it, or set it to None"
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
    """The nodes of the completion that ends with `node`, in order: several where forks cut it, none if `node` is none."""
    parts: list[Node] = []
    while node.is_sampled:
        assert node.parent is not None, "a completion has a parent"
        parts.append(node)
        node = tree.nodes[node.parent]
    return parts[::-1]


def turn_token_ids(tree: RolloutTree, node: Node) -> list[int]:
    """The tokens of the completion that ends with `node`; empty if `node` is no completion."""
    return [token for part in turn_completions(tree, node) for token in part.token_ids]


def _joined(first: Completion, second: Completion) -> Completion:
    """A paused completion and its rest as one; both must come from one version of the weights."""
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
    """The text of sampled ids, without the end of sequence."""
    return tokenizer.decode([t for t in token_ids if t not in tokenizer.eos_ids])
