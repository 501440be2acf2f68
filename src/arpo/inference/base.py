"""What an inference engine is: token ids in, sampled token ids out, with prefixes that fork.

An engine knows nothing of text, tasks or tools. It is asynchronous: many requests run at once and share forward passes.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar

from arpo.errors import EngineError
from arpo.inference.usage import ServerUsage
from arpo.types import Completion, SamplingParams

if TYPE_CHECKING:
    from torch import Tensor


class PrefixHandle(Protocol):
    """A prefix the engine keeps ready to be continued; it never changes, continuing it gives a new one."""

    token_ids: tuple[int, ...]
    """From the first of the prompt to the last of the prefix."""
    is_released: bool

    @property
    def num_tokens(self) -> int:
        """Length of `token_ids`."""
        return len(self.token_ids)

    def last(self, count: int) -> tuple[int, ...]:
        """The last `count` tokens."""
        return self.token_ids[self.num_tokens - count :]

    def fork(self) -> Self:
        """Another handle on the same prefix, to be released on its own; nothing is computed or copied."""
        ...

    def truncate(self, num_tokens: int, tail: Sequence[int]) -> Self:
        """Another handle on the first `num_tokens` tokens of the prefix, to be released on its own.

        It is continued as a completion cut there: by `generate` with `position` = the tokens of that completion up to the cut.
        Continuing it computes at most one token again, whose last hidden state was not kept.

        Args:
            num_tokens: Tokens to keep, fewer than `num_tokens` of this handle.
            tail: Tokens of the completion up to the cut, at least one; the kept prefix ends with them.

        Raises:
            EngineError: `require_cut` refuses the cut, or the engine never continues a completion.
        """
        ...

    def release(self) -> None:
        """Give the memory back; other handles on the prefix stay valid.

        Raises:
            EngineError: this handle was released before.
        """
        ...

    def require_held(self) -> None:
        """Refuse a handle that was released.

        Raises:
            EngineError: this handle was released before.
        """
        if self.is_released:
            raise EngineError(f"a released prefix of {self.num_tokens} tokens was used; fork a prefix to keep it")

    def require_cut(self, num_tokens: int, tail: Sequence[int]) -> None:
        """Refuse what is no cut inside a completion; the arguments are those of `truncate`.

        Raises:
            EngineError: this handle was released before, `num_tokens` is not below its length, or `tail` is empty or not what
                the kept tokens end with.
        """
        self.require_held()
        is_inside = 1 <= len(tail) <= num_tokens < self.num_tokens
        if not is_inside or self.token_ids[num_tokens - len(tail) : num_tokens] != tuple(tail):
            raise EngineError(
                f"truncate: a prefix of {self.num_tokens} tokens cannot be cut to {num_tokens} that end with the {len(tail)} "
                f"given; keep fewer tokens than it has, and give at least one of them, the last ones, as `tail`"
            )


P = TypeVar("P", bound=PrefixHandle)

WeightSource: TypeAlias = "Path | Iterable[tuple[str, Tensor]]"
"""Names and full tensors of every weight, or a Hugging Face model directory."""


class InferenceEngine(Protocol[P]):
    """Grows token sequences. Every method may be called by many trajectories at once.

    An engine continues prefixes of its own kind P only; whoever merely passes them on writes `InferenceEngine[Any]`. Continuing
    a released prefix raises EngineError.
    """

    version: int
    """Optimizer updates behind the weights in use."""
    entropy_estimators: tuple[str, ...]
    """What `Completion.entropies` can be, the first by default: `exact` (full vocabulary), `top_k` (`entropy_top_k` tokens).
    Empty: the engine tells neither entropies nor log-probs, never pauses within a completion, and is for evaluation only."""
    usage: ServerUsage | None = None
    """What was asked of a server so far; None: there is none."""

    async def prefill(self, parent: P | None, token_ids: Sequence[int]) -> P:
        """The prefix `parent` + `token_ids` (from nothing when `parent` is None). Computes the new tokens only."""
        ...

    async def generate(
        self, prefix: P, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, P]:
        """Sample up to `sampling.max_tokens` tokens after `prefix`; return them and the longer prefix.

        The caller keeps `prefix` and owns the returned handle too. Two calls on one prefix are two branches of it: neither
        computes it again. A request that ended with
        `StopReason.LENGTH` goes on by a second call on the returned handle, with the same `seed` and `position` = tokens
        already drawn; the tokens are those of one longer call. A draw depends on (seed, position) and the prefix alone.

        Args:
            prefix: What to continue.
            sampling: Temperature and token limit.
            seed: Names the stream of random numbers.
            position: Index of the first token to draw within that stream.
            stop: Strings that end sampling once the sampled text holds one; the token that completes it is kept whole.
        """
        ...

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """Sample with other weights from now on; returns when every request that follows is answered by them.

        An update waits for nobody: it is refused while prefixes of the former weights are held or requests run. So one version
        draws a completion whole, also one that pauses, and the completion says which.

        Args:
            source: Names and full tensors of every weight (`models.weights.ModelWeights`), or a Hugging Face model directory.
            version: Optimizer updates behind these weights, for `version` and `Completion.policy_version`.

        Raises:
            EngineError: prefixes are held, requests run, the weights are not those of the engine's model, or it takes none.
        """
        ...

    def participate(self) -> AbstractContextManager[None]:
        """Join the callers whose timing must not shape the batches.

        While anybody participates, a forward pass starts only when every participant awaits the engine; so the composition
        of each batch, and with it the arithmetic, does not depend on how long tools take. A participant makes one request
        at a time.

        Raises:
            EngineError: the engine cannot fix the composition of its batches.
        """
        ...

    async def aclose(self) -> None:
        """Stop background work and free the cache; further requests are refused with EngineError."""
        ...


def require_none_held(num_prefixes: int, num_requests: int = 0) -> None:
    """Refuse an update of weights while something of the former ones is left.

    Raises:
        EngineError: prefixes are held, or requests not answered yet.
    """
    if num_prefixes or num_requests:
        raise EngineError(
            f"update_weights: {num_prefixes} prefixes of the former weights are held, {num_requests} requests unfinished; "
            f"release and finish them first"
        )
