"""Attention of packed new tokens over the cached sequences they belong to."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from arpo.inference.kv_cache import ForkableKVCache


@dataclass(slots=True, frozen=True)
class Segment:
    """New tokens of one sequence in a packed forward pass."""

    slot: int
    start: int
    """Position of the first new token: the sequence's length before this pass."""
    num_tokens: int


class CacheLayout:
    """Writes the keys and values of packed segments into their slots and attends to everything before them.

    Segments of one token (decoding) share one attention call; longer ones (prefill) take one each. Decoding reads the slots in
    place when most of them take part, as gathering them would copy the whole cache in every layer.
    """

    def __init__(self, cache: ForkableKVCache, segments: list[Segment], device: torch.device):
        for segment in segments:
            cache.extend(segment.slot, segment.num_tokens)
        self._cache = cache
        slots = torch.tensor([s.slot for s in segments])
        starts = torch.tensor([s.start for s in segments])
        counts = torch.tensor([s.num_tokens for s in segments])
        offsets = torch.cumsum(counts, 0) - counts
        self.last = (offsets + counts - 1).to(device)
        """[segments] index of each segment's last token in the packed sequence."""
        within = torch.arange(int(counts.sum())) - offsets.repeat_interleave(counts)
        self.positions = (starts.repeat_interleave(counts) + within).to(device)
        """[tokens] position of each token in its own sequence."""
        self._token_slots = slots.repeat_interleave(counts).to(device)

        single = counts == 1
        self._decode_tokens = offsets[single].to(device)
        self._decode_slots = slots[single].to(device)
        lengths = starts[single] + 1
        self._decode_length = int(lengths.max()) if len(lengths) else 0
        # Counted up to the last slot that takes part, not to the cache's capacity, which depends on what ran before.
        num_slots = int(slots[single].max()) + 1 if len(lengths) else 0
        self._reads_in_place = 3 * len(lengths) >= num_slots
        rows = self._num_rows = num_slots if self._reads_in_place else len(lengths)
        row_lengths = torch.ones(rows, dtype=torch.long)  # idle slots attend to one stale position and are ignored
        row_lengths[slots[single] if self._reads_in_place else slice(None)] = lengths
        mask = torch.arange(self._decode_length) < row_lengths.unsqueeze(-1)
        self._decode_mask = mask[:, None, None, :].to(device)

        self._prefills = [
            (s, int(o), _causal_mask(s, device)) for s, o in zip(segments, offsets, strict=True) if s.num_tokens > 1
        ]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `AttentionLayout.attend`."""
        keys, values = self._cache.layer(layer)
        keys[self._token_slots, :, self.positions] = key
        values[self._token_slots, :, self.positions] = value
        output = torch.empty_like(query)
        if len(self._decode_tokens):
            output[self._decode_tokens] = self._decode(query[self._decode_tokens], keys, values, scale)
        for segment, offset, mask in self._prefills:
            span = slice(offset, offset + segment.num_tokens)
            output[span] = _prefill(query[span], keys[segment.slot], values[segment.slot], mask, scale)
        return output

    def _decode(self, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """One query per sequence; query heads of one key head become query positions, so keys are never repeated."""
        num_sequences, num_heads, dim = query.shape
        num_kv_heads = keys.shape[1]
        grouped = query.view(num_sequences, num_kv_heads, num_heads // num_kv_heads, dim)
        if self._reads_in_place:
            rows = query.new_zeros((self._num_rows, *grouped.shape[1:]))
            rows[self._decode_slots] = grouped
            keys, values = (states[: self._num_rows, :, : self._decode_length] for states in (keys, values))
        else:
            rows = grouped
            keys = keys[self._decode_slots, :, : self._decode_length]
            values = values[self._decode_slots, :, : self._decode_length]
        attended = scaled_dot_product_attention(rows, keys, values, attn_mask=self._decode_mask, scale=scale)
        if self._reads_in_place:
            attended = attended[self._decode_slots]
        return attended.reshape(num_sequences, num_heads, dim)


def _causal_mask(segment: Segment, device: torch.device) -> Tensor:
    """[new tokens, all positions] True where a new token sees a position."""
    end = segment.start + segment.num_tokens
    return torch.ones(segment.num_tokens, end, dtype=torch.bool, device=device).tril(diagonal=segment.start)


def _prefill(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    num_tokens, num_heads, dim = query.shape
    num_kv_heads, end = keys.shape[0], mask.shape[1]
    group = num_heads // num_kv_heads
    grouped = query.transpose(0, 1).reshape(num_kv_heads, group * num_tokens, dim)
    attended = scaled_dot_product_attention(
        grouped.unsqueeze(0), keys[None, :, :end], values[None, :, :end], attn_mask=mask.repeat(group, 1), scale=scale
    )
    return attended.reshape(num_heads, num_tokens, dim).transpose(0, 1)
