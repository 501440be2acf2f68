"""Attention of packed new tokens over their cached sequences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from arpo.inference.kv_cache import ForkableKVCache

_CALL_BYTES = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Bytes of keys and values a device reads in the time one more attention call takes, roughly."""
_SCORES_AT_ONCE, _KEY_BYTES_AT_ONCE = 1 << 21, 1 << 22
"""Scores and copied keys of one attention call on a CPU, so that they stay in its cache."""


class Segment(NamedTuple):
    """New tokens of one sequence in a packed forward pass."""

    slot: int
    start: int
    """Position of the first new token: the sequence's length before this pass."""
    num_tokens: int


@dataclass(slots=True)
class _Block:
    """Neighbouring rows with equally many new tokens; one call attends to all of them in place, up to the longest."""

    rows: slice
    tokens: slice
    num_new: int
    end: int
    hidden: Tensor | None
    """[rows or 1, 1, new tokens, room + end] added to the scores; None: every token sees all positions up to `end`."""
    room: int
    """Positions the block can still grow by: leading columns of `hidden`, all visible."""

    @property
    def mask(self) -> Tensor | None:
        """[rows or 1, 1, new tokens, end] view of `hidden`: one more leading column per position grown."""
        return None if self.hidden is None else self.hidden[..., self.room :]

    def grow(self) -> None:
        """Advance by one token per row; every row must have one new token."""
        self.end += 1
        self.room -= 1


class CacheLayout:
    """Writes the keys and values of packed segments into their slots and attends to all positions before them.

    Segments in neighbouring rows of the cache share an attention call when the excess positions that the shorter ones read cost
    less than another call. Keys and values are read in place: gathering them would copy the whole cache in every layer.
    """

    def __init__(self, cache: ForkableKVCache, segments: Sequence[Segment], device: torch.device):
        """A layout of `segments`, sorted by the row of their slot."""
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
        self._write_indices = torch.from_numpy(cache.write_indices(slots.repeat(counts), positions)).to(device)
        call_cost = _CALL_BYTES.get(device.type, _CALL_BYTES["cuda"]) // cache.position_bytes
        rows = np.array(cache.rows(slots.tolist()))
        bounds = list(_split(rows.tolist(), starts.tolist(), counts.tolist(), call_cost))
        self._blocks = [self._block(rows[b], starts[b], counts[b], int(ends[b.start] - counts[b.start])) for b in bounds]
        self._slots: list[int] = slots.tolist()
        self._is_decoding = bool((counts == 1).all())

    def advance(self) -> bool:
        """Advance by one token per segment; False where a new layout is needed, as when a segment had several tokens.

        Cheaper than a new layout and equal to it, as blocks depend only on the differences of lengths.
        """
        is_current = self._capacity == (self._cache.num_slots, self._cache.num_positions)
        if not (self._is_decoding and is_current and all(block.room for block in self._blocks)):
            return False
        self._cache.extend_each(self._slots)
        self.positions += 1
        self._write_indices += 1  # positions of one slot and head are adjacent
        for block in self._blocks:
            block.grow()
        return True

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `AttentionLayout.attend`."""
        self._cache.write(layer, self._write_indices, key, value)
        keys, values = self._cache.layer(layer)
        if len(self._blocks) == 1:
            return _attend(self._blocks[0], query, keys, values, scale)
        return torch.cat([_attend(block, query[block.tokens], keys, values, scale) for block in self._blocks])

    def _block(self, rows: np.ndarray, starts: np.ndarray, counts: np.ndarray, first_token: int) -> _Block:
        num_new, end = int(counts[0]), int(starts.max() + counts[0])
        room = self._cache.num_positions - end if num_new == 1 else 0
        return _Block(
            rows=slice(int(rows[0]), int(rows[-1]) + 1),
            tokens=slice(first_token, first_token + num_new * len(rows)),
            num_new=num_new,
            end=end,
            hidden=_hidden(starts, num_new, end, room, self._cache),
            room=room,
        )


def _split(rows: list[int], starts: list[int], counts: list[int], call_cost: int) -> Iterator[slice]:
    """Cut segments into blocks from left to right, where a block would read more excess positions than a call costs."""
    first, longest, waste = 0, starts[0], 0
    for i in range(1, len(rows)):
        higher = max(longest, starts[i])
        waste += (higher - longest) * (i - first) + higher - starts[i]
        if rows[i] != rows[i - 1] + 1 or counts[i] != counts[i - 1] or waste > call_cost:
            yield slice(first, i)
            first, longest, waste = i, starts[i], 0
        else:
            longest = higher
    yield slice(first, len(rows))


def _hidden(starts: np.ndarray, num_new: int, end: int, room: int, cache: ForkableKVCache) -> Tensor | None:
    is_even = bool((starts == starts[0]).all())
    if is_even and num_new == 1:
        return None
    starts = starts[:1] if is_even else starts
    seen = starts[:, None] + np.arange(num_new) + room
    is_hidden = torch.from_numpy(np.arange(room + end) > seen[:, :, None])
    return torch.zeros(is_hidden.shape, dtype=cache.dtype).masked_fill_(is_hidden, float("-inf")).unsqueeze(1).to(cache.device)


def _attend(block: _Block, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    keys, values = (states[block.rows, :, : block.end] for states in (keys, values))
    (rows, kv_heads), (num_heads, dim) = keys.shape[:2], query.shape[1:]
    grouped = query.view(rows, block.num_new, kv_heads, num_heads // kv_heads, dim).permute(0, 2, 3, 1, 4)
    attended = grouped_attention(grouped, keys, values, block.mask, scale)
    return attended.permute(0, 3, 1, 2, 4).reshape(-1, num_heads, dim)


def grouped_attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention of each row's new tokens over its positions, by the fastest way of the device.

    The query heads of one key head become query positions, so that keys are never repeated. A CPU decodes with two batched
    products, which read the cache at the speed of memory: about twice as fast as the fused kernel, which is made for many
    queries. In 16 bits they are faster for many queries too.

    Args:
        query: [rows, kv_heads, group, new tokens, dim], as the output.
        keys: [rows, kv_heads, positions, dim], as `values`.
        values: What is averaged.
        mask: [rows or 1, 1, new tokens, positions] added to the scores; None: every token sees every position.
        scale: Factor of the scores.
    """
    rows, kv_heads, group, num_new, dim = query.shape
    grouped = query.reshape(rows, kv_heads, group * num_new, dim)
    if query.device.type == "cpu" and (num_new == 1 or query.element_size() == 2):
        return _two_products(grouped, keys, values, mask, scale).view(query.shape)
    if mask is not None and num_new > 1 and group > 1:
        mask = mask.repeat(1, 1, group, 1)
    return scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scale).view(query.shape)


def _two_products(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention by two batched products; in 16 bits, which need a copy of the keys, a few rows at a time."""
    (rows, kv_heads, num_queries, _), positions = query.shape, keys.shape[2]
    at_once = rows
    if query.element_size() == 2:
        scores, key_bytes = kv_heads * num_queries * positions, keys[0].numel() * keys.element_size()
        num_parts = max(rows * scores // _SCORES_AT_ONCE, rows * key_bytes // _KEY_BYTES_AT_ONCE) + 1
        at_once = -(-rows // num_parts)
    attended = []
    for first in range(0, rows, at_once):
        part = slice(first, first + at_once)
        part_query, part_keys, part_values = (states[part].flatten(0, 1) for states in (query, keys, values))
        if query.element_size() == 2:
            part_keys = part_keys.contiguous()  # else the product copies the transposed keys, element by element
        scores = torch.bmm(part_query * scale, part_keys.transpose(1, 2))
        if mask is not None:
            added = mask if len(mask) == 1 else mask[part]
            scores.view(-1, kv_heads, num_queries // added.shape[2], *added.shape[2:]).add_(added.unsqueeze(2))
        attended.append(torch.bmm(torch.softmax(scores, dim=-1), part_values))
    return attended[0] if len(attended) == 1 else torch.cat(attended)
