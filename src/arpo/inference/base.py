"""The interface of an inference engine: token ids in, sampled token ids out, with prefixes that fork.

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
    """A prefix the engine keeps ready; it never changes, and continuing it makes a new one."""

    token_ids: tuple[int, ...]
    """All ids, from the first of the prompt to the last of the prefix."""
    is_released: bool

    @property
    def num_tokens(self) -> int:
        """Length of `token_ids`."""
        return len(self.token_ids)

    def last(self, count: int) -> tuple[int, ...]:
        """The last `count` tokens."""
        return self.token_ids[self.num_tokens - count :]

    def fork(self) -> Self:
        """Another handle on the same prefix, released separately; nothing is computed or copied."""
        ...

    def truncate(self, num_tokens: int, tail: Sequence[int]) -> Self:
        """Another handle on the first `num_tokens` tokens of the prefix, released separately.

        `generate` continues it as a completion cut there, with `position` = the tokens of that completion up to the cut. That
        computes at most one token again, as its last hidden state was not kept.

        Args:
            num_tokens: Tokens to keep, fewer than `num_tokens` of this handle.
            tail: Tokens of the completion up to the cut, at least one; the kept prefix ends with them.

        Raises:
            EngineError: `require_cut` refuses the cut, or the engine cannot continue a completion.
        """
        ...

    def release(self) -> None:
        """Free the memory; other handles on the prefix stay valid.

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
        """Refuse a cut that is not inside a completion; arguments as in `truncate`.

        Raises:
            EngineError: this handle was released before, `num_tokens` is not below its length, or `tail` is empty or not the
                end of the kept tokens.
        """
        self.require_held()
        is_inside = 1 <= len(tail) <= num_tokens < self.num_tokens
        if not is_inside or self.token_ids[num_tokens - len(tail) : num_tokens] != tuple(tail):
            raise EngineError(
                f"truncate: a prefix of {self.num_tokens} tokens cannot be cut to {num_tokens} tokens that end with the "
                f"{len(tail)} of `tail`; keep fewer tokens than the prefix has, and pass at least the last kept one as `tail`"
            )


P = TypeVar("P", bound=PrefixHandle)

WeightSource: TypeAlias = "str | Path | Iterable[tuple[str, Tensor]]"
"""Names and full tensors of every weight, or a Hugging Face model directory."""


class InferenceEngine(Protocol[P]):
    """Samples token sequences. Many trajectories may call every method at once.

    An engine continues prefixes of its kind P only; code that only passes them on writes `InferenceEngine[Any]`. Continuing a
    released prefix raises EngineError.
    """

    version: int
    """Optimizer updates behind the weights in use."""
    entropy_estimators: tuple[str, ...]
    """Estimators of `Completion.entropies`, the default first: `exact` (full vocabulary), `top_k` (`entropy_top_k` tokens).
    Empty: the engine reports neither entropies nor log-probs, never pauses within a completion, and is for evaluation only."""
    notice: str | None = None
    """What the user should know of it when a run starts; None: nothing."""
    usage: ServerUsage | None = None
    """Requests to a server so far; None: the engine has no server."""

    async def prefill(self, parent: P | None, token_ids: Sequence[int]) -> P:
        """The prefix `parent` + `token_ids`; `parent` None: `token_ids` alone. Computes the new tokens only."""
        ...

    async def generate(
        self, prefix: P, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, P]:
        """Sample up to `sampling.max_tokens` tokens after `prefix`; return them and the longer prefix.

        The caller keeps `prefix` and owns the returned handle too. Two calls on one prefix are two branches of it: neither
        computes it again. A second call on the returned handle continues a request that ended with `StopReason.LENGTH`, with
        the same `seed` and `position` = tokens already drawn; the tokens equal those of one longer call. A draw depends on
        (seed, position) and the prefix alone.

        Args:
            prefix: The prefix to continue.
            sampling: Temperature and token limit.
            seed: Names the stream of random numbers.
            position: Index of the first token to draw within that stream.
            stop: Strings that end sampling once the sampled text holds one; the token that completes it is kept whole.
        """
        ...

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """Sample with other weights from now on; returns once all later requests use them.

        An update does not wait: it is refused while prefixes of the former weights are held or requests run. So one version
        draws a whole completion, also one that pauses; `Completion.policy_version` says which.

        Args:
            source: Names and full tensors of every weight (`models.weights.ModelWeights`), or a Hugging Face model directory.
            version: Optimizer updates behind these weights, for `version` and `Completion.policy_version`.

        Raises:
            EngineError: prefixes are held, requests run, the weights do not fit the engine's model, or it accepts none.
        """
        ...

    async def weight_digests(self) -> dict[str, str] | None:
        """Digests (`models.weights.weight_digests`) of the tensors that forward passes read, by name in the ordinary model.

        None: the engine holds its weights in another form, so that updates must be proved by their effect.
        """
        return None

    def participate(self) -> AbstractContextManager[None]:
        """Join the batch barrier, so that the caller's timing does not shape the batches.

        While there are participants, a forward pass starts only when every participant awaits the engine; so the composition
        of each batch, and with it the arithmetic, does not depend on how long tools take. A participant makes one request
        at a time.

        Raises:
            EngineError: the engine cannot fix the composition of its batches.
        """
        ...

    async def aclose(self) -> None:
        """Stop background work and free the cache; further requests raise EngineError."""
        ...


def require_none_held(num_prefixes: int, num_requests: int = 0) -> None:
    """Refuse an update of weights while prefixes or requests of the former weights remain.

    Raises:
        EngineError: prefixes are held, or requests are unfinished.
    """
    if num_prefixes or num_requests:
        raise EngineError(
            f"update_weights: {num_prefixes} prefixes of the former weights are held, {num_requests} requests unfinished; "
            f"release and finish them first"
        )
