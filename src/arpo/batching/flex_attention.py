"""Tree attention on a GPU: FlexAttention with one integer per token."""

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

BLOCK_SIZE = 128
"""Queries, and keys, per tile of FlexAttention's mask."""


class TreeMask:
    """The mask `j <= i < ends[j]` of a pack, padded to whole tiles with tokens that see only each other."""

    def __init__(self, ends: Tensor):
        """A mask on the device of `ends` [T], the end of the subtree of each token's node."""
        self.num_tokens = len(ends)
        self.num_padding = -len(ends) % BLOCK_SIZE
        self.blocks = _block_mask(pad(ends, (0, self.num_padding), value=len(ends) + self.num_padding))


def flex_tree_attention(query: Tensor, key: Tensor, value: Tensor, mask: TreeMask, scale: float) -> Tensor:
    """Attention [tokens, heads, dim] of query [tokens, heads, dim] to key and value [tokens, kv_heads, dim].

    Compiled on a GPU; on a CPU, for comparison, FlexAttention runs forward only and holds the whole matrix of scores.
    """
    padded = (pad(states, (0, 0, 0, 0, 0, mask.num_padding)).transpose(0, 1).unsqueeze(0) for states in (query, key, value))
    kernel: Any = _compiled() if query.is_cuda else flex_attention
    output: Tensor = kernel(*padded, block_mask=mask.blocks, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    return output[0, :, : mask.num_tokens].transpose(0, 1)


def _block_mask(ends: Tensor) -> BlockMask:
    """The mask per tile, from the largest and smallest end in each tile of keys; never built per token."""

    def is_visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[key])

    of_tiles = ends.view(-1, BLOCK_SIZE)
    starts = torch.arange(len(of_tiles), device=ends.device) * BLOCK_SIZE
    query_starts, key_starts = starts[:, None], starts[None, :]
    is_below = key_starts < query_starts
    is_full = is_below & (of_tiles.amin(1) >= query_starts + BLOCK_SIZE)
    is_partial = (is_below & (of_tiles.amax(1) > query_starts) & ~is_full) | (key_starts == query_starts)
    tiles = *_counts_and_indices(is_partial), *_counts_and_indices(is_full)
    return BlockMask.from_kv_blocks(*tiles, BLOCK_SIZE=BLOCK_SIZE, mask_mod=is_visible, seq_lengths=(len(ends), len(ends)))


def _counts_and_indices(is_set: Tensor) -> tuple[Tensor, Tensor]:
    """Per row of tiles, the number of set tiles, and the columns with set ones first: [1, 1, tiles], [1, 1, tiles, tiles]."""
    columns = is_set.int().argsort(dim=1, descending=True, stable=True)
    return is_set.sum(1, dtype=torch.int32)[None, None], columns.int()[None, None]


@cache
def _compiled() -> Any:
    return cast(Any, torch).compile(flex_attention, dynamic=True)  # packs differ in length; each would be compiled anew
