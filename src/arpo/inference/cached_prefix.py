"""The handle on a prefix whose keys and values are in a `ForkableKVCache`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from arpo.inference.base import PrefixHandle
from arpo.inference.kv_cache import ForkableKVCache


class HiddenRow(NamedTuple):
    """The last hidden state of one sequence, as a row of the forward pass that computed it."""

    rows: Tensor
    """[sequences, hidden] last hidden states of the whole pass."""
    row: int


@dataclass(slots=True, kw_only=True, eq=False)
class CachedPrefix(PrefixHandle):
    """A prefix in the cache: `length` computed positions of `slot`, then tokens not computed yet."""

    cache: ForkableKVCache
    slot: int
    length: int
    token_ids: tuple[int, ...]
    hidden: HiddenRow | None
    """Hidden state of the last computed token; None while tokens are pending."""
    is_released: bool = False

    @property
    def pending(self) -> tuple[int, ...]:
        """The tokens not computed yet."""
        return self.token_ids[self.length :]

    def fork(self) -> "CachedPrefix":
        """As `PrefixHandle.fork`."""
        self.require_held()
        self.cache.retain(self.slot)
        return replace(self)

    def truncate(self, num_tokens: int, tail: Sequence[int]) -> "CachedPrefix":
        """As `PrefixHandle.truncate`; continuing it computes the last kept token again."""
        self.require_cut(num_tokens, tail)
        self.cache.retain(self.slot)
        return replace(self, length=num_tokens - 1, token_ids=self.token_ids[:num_tokens], hidden=None)

    def release(self) -> None:
        """As `PrefixHandle.release`."""
        self.require_held()
        self.is_released = True
        self.cache.release(self.slot)
