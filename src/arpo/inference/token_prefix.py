"""A prefix that consists of its token ids, and the base class of engines with such prefixes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine, PrefixHandle, WeightSource, require_none_held


@dataclass(slots=True, eq=False)
class TokenPrefix(PrefixHandle):
    """A prefix that consists of its ids, by which the engine finds earlier computations."""

    engine: "TokenPrefixEngine"
    token_ids: tuple[int, ...]
    is_sampled: tuple[bool, ...]
    """[T] True on tokens the policy sampled."""
    is_released: bool = False

    def __post_init__(self) -> None:
        """Count the new handle."""
        self.engine.num_held_prefixes += 1

    def extend(self, token_ids: Sequence[int], *, is_sampled: bool) -> "TokenPrefix":
        """A handle on this prefix and more tokens; `is_sampled`: the policy sampled them."""
        self.require_held()
        more = (is_sampled,) * len(token_ids)
        return TokenPrefix(self.engine, (*self.token_ids, *token_ids), (*self.is_sampled, *more))

    def fork(self) -> "TokenPrefix":
        """As `PrefixHandle.fork`."""
        self.require_held()
        return replace(self)

    def truncate(self, num_tokens: int, tail: Sequence[int]) -> "TokenPrefix":
        """As `PrefixHandle.truncate`."""
        self.require_cut(num_tokens, tail)
        if not self.engine.entropy_estimators:
            raise EngineError("truncate: this engine cannot continue a completion from a cut; use another engine for branching")
        return TokenPrefix(self.engine, self.token_ids[:num_tokens], self.is_sampled[:num_tokens])

    def release(self) -> None:
        """As `PrefixHandle.release`."""
        self.require_held()
        self.is_released = True
        self.engine.num_held_prefixes -= 1


class TokenPrefixEngine(InferenceEngine[TokenPrefix]):
    """An engine that keeps only the ids of a prefix; the base class loads, awaits and frees nothing."""

    def __init__(self) -> None:
        self.version = 0
        self.num_held_prefixes = 0
        """Handles not released yet."""

    async def prefill(self, parent: TokenPrefix | None, token_ids: Sequence[int]) -> TokenPrefix:
        """As `InferenceEngine.prefill`; the first completion that follows computes the prefix."""
        if parent is not None:
            parent.require_held()
        if not (parent or token_ids):
            raise EngineError("prefill: no tokens; give at least one token id")
        if parent is None:
            return TokenPrefix(self, tuple(token_ids), (False,) * len(token_ids))
        return parent.extend(token_ids, is_sampled=False)

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """As `InferenceEngine.update_weights`; sets the version only.

        Raises:
            EngineError: prefixes of the former weights are held.
        """
        require_none_held(self.num_held_prefixes)
        self.version = version

    @contextmanager
    def participate(self) -> Iterator[None]:
        """As `InferenceEngine.participate`; no barrier, as completions do not depend on one another."""
        yield

    async def aclose(self) -> None:
        """As `InferenceEngine.aclose`."""
