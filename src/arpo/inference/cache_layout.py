"""Attention of packed new tokens over the cached sequences they belong to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from arpo.inference.kv_cache import ForkableKVCache

_CALL_BYTES = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Bytes of keys and values a device reads in the time one more attention call takes, roughly."""


class Segment(NamedTuple):
    """New tokens of one sequence in a packed forward pass."""

    slot: int
    start: int
    """Position of the first new token: the sequence's length before this pass."""
    num_tokens: int


@dataclass(slots=True, frozen=True)
class _Block:
    """Neighbouring slots with equally many new tokens, attended to in one call, in place, up to the longest of them."""

    slots: slice
    tokens: slice
    num_new: int
    end: int
    mask: Tensor | None
    """[slots or 1, 1, query positions, end] to be added to the scores; None: every token sees everything up to `end`."""


class CacheLayout:
    """Writes the keys and values of packed segments into their slots and attends to everything before them.

    Segments in neighbouring slots share an attention call when what the shorter ones read too much costs less than another
    call. Keys and values are read where they lie: gathering them would copy the whole cache in every layer.
    """

    def __init__(self, cache: ForkableKVCache, segments: Sequence[Segment], device: torch.device):
        """A layout of `segments`, whose slots are in ascending order."""
        for segment in segments:
            cache.extend(segment.slot, segment.num_tokens)
        self._cache = cache
        self._capacity = cache.num_slots, cache.num_positions
        slots, starts, counts = np.array(segments).T
        ends = counts.cumsum()
        within = np.arange(ends[-1]) - (ends - counts).repeat(counts)
        positions = starts.repeat(counts) + within
        self.last = torch.from_numpy(ends - 1).to(device)
        """[segments] index of each segment's last token in the packed sequence."""
        self.positions = torch.from_numpy(positions).to(device)
        """[tokens] position of each token in its own sequence."""
        self._places = torch.from_numpy(cache.places(slots.repeat(counts), positions)).to(device)
        call_cost = _CALL_BYTES.get(device.type, _CALL_BYTES["cuda"]) // cache.position_bytes
        bounds = list(_split(slots.tolist(), starts.tolist(), counts.tolist(), call_cost))
        self._blocks = [self._block(slots[b], starts[b], counts[b], int(ends[b.start] - counts[b.start])) for b in bounds]

    def advance(self) -> bool:
        """Become the layout of one more token per segment, all of which had one; False where it takes a new layout.

        Cheaper than a new one, and the same: blocks depend on how the lengths differ.
        """
        slots = [slot for block in self._blocks for slot in range(block.slots.start, block.slots.stop)]
        has_room = max(self._cache.lengths[slot] for slot in slots) < self._cache.num_positions
        is_current = self._capacity == (self._cache.num_slots, self._cache.num_positions)
        if not (has_room and is_current and all(block.num_new == 1 for block in self._blocks)):
            return False
        for slot in slots:
            self._cache.extend(slot, 1)
        self.positions += 1
        self._places += 1  # positions of one slot and head lie next to each other
        self._blocks = [_one_longer(block) for block in self._blocks]
        return True

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `AttentionLayout.attend`."""
        self._cache.write(layer, self._places, key, value)
        keys, values = self._cache.layer(layer)
        if len(self._blocks) == 1:
            return _attend(self._blocks[0], query, keys, values, scale)
        return torch.cat([_attend(block, query[block.tokens], keys, values, scale) for block in self._blocks])

    def _block(self, slots: np.ndarray, starts: np.ndarray, counts: np.ndarray, first_token: int) -> _Block:
        num_new, end = int(counts[0]), int(starts.max() + counts[0])
        return _Block(
            slots=slice(int(slots[0]), int(slots[-1]) + 1),
            tokens=slice(first_token, first_token + num_new * len(slots)),
            num_new=num_new,
            end=end,
            mask=_mask(starts, num_new, end, self._cache),
        )


def _split(slots: list[int], starts: list[int], counts: list[int], call_cost: int) -> Iterator[slice]:
    """Cut segments into blocks, from left to right; costs are in positions read."""
    first, longest = 0, starts[0]
    for i in range(1, len(slots)):
        higher, size = max(longest, starts[i]), i - first
        waste = (higher - longest) * size + higher - starts[i]
        if slots[i] != slots[i - 1] + 1 or counts[i] != counts[i - 1] or waste > call_cost:
            yield slice(first, i)
            first, longest = i, starts[i]
        else:
            longest = higher
    yield slice(first, len(slots))


def _mask(starts: np.ndarray, num_new: int, end: int, cache: ForkableKVCache) -> Tensor | None:
    is_even = bool((starts == starts[0]).all())
    if is_even and num_new == 1:
        return None
    starts = starts[:1] if is_even else starts
    seen = starts[:, None] + np.arange(num_new)
    hidden = np.arange(end) > seen[:, :, None]
    mask = torch.zeros(hidden.shape, dtype=cache.dtype).masked_fill_(torch.from_numpy(hidden), float("-inf"))
    return mask.unsqueeze(1).to(cache.device)


def _one_longer(block: _Block) -> _Block:
    return replace(block, end=block.end + 1, mask=None if block.mask is None else pad(block.mask, (1, 0)))


def _attend(block: _Block, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Query heads of one key head become query positions, so that keys are never repeated."""
    keys, values = (states[block.slots, :, : block.end] for states in (keys, values))
    (rows, kv_heads), (num_heads, dim) = keys.shape[:2], query.shape[1:]
    group = num_heads // kv_heads
    grouped = query.view(rows, block.num_new, kv_heads, group, dim).permute(0, 2, 3, 1, 4)
    grouped = grouped.reshape(rows, kv_heads, group * block.num_new, dim)
    mask = block.mask
    if mask is not None and group > 1:
        mask = mask.repeat(1, 1, group, 1)
    attended = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scale)
    attended = attended.view(rows, kv_heads, group, block.num_new, dim).permute(0, 3, 1, 2, 4)
    return attended.reshape(-1, num_heads, dim)
