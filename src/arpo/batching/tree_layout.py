"""Attention over packed trees, at a cost of the sum over nodes of node length x path length."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from arpo.batching.flex_attention import TreeMask, flex_tree_attention
from arpo.batching.path_attention import Chain, PathAttention


class NodeRange(NamedTuple):
    """The tokens of one node in a pack."""

    start: int
    stop: int
    parent: int
    """Index of the parent among the pack's nodes; -1 for a root."""


class TreeLayout:
    """`AttentionLayout` of packed trees: each token sees the tokens on its own path up to itself."""

    def __init__(self, nodes: Sequence[NodeRange]):
        """A layout of the nodes of one or more trees, each in depth-first order and without gaps."""
        lengths = torch.tensor([node.stop - node.start for node in nodes])
        self.ends = torch.tensor(_subtree_ends(nodes)).repeat_interleave(lengths)
        """[T] end of the subtree of each token's node: token j is visible to token i where j <= i < ends[j]."""
        self._paths = PathAttention(_chains(nodes))
        self._mask: TreeMask | None = None

    def to(self, device: torch.device) -> "TreeLayout":
        """The same on another device."""
        if device == self.ends.device:
            return self
        moved = TreeLayout.__new__(TreeLayout)
        moved.ends, moved._paths, moved._mask = self.ends.to(device), self._paths, None
        return moved

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `AttentionLayout.attend`: FlexAttention on a GPU, attention path by path on a CPU."""
        if not query.is_cuda:
            return self._paths.attend(query, key, value, scale)
        if self._mask is None:
            self._mask = TreeMask(self.ends)
        return flex_tree_attention(query, key, value, self._mask, scale)


def _subtree_ends(nodes: Sequence[NodeRange]) -> list[int]:
    ends = [node.stop for node in nodes]
    for index in range(len(nodes) - 1, -1, -1):
        parent = nodes[index].parent
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[index])
    return ends


def _chains(nodes: Sequence[NodeRange]) -> list[Chain]:
    """The chains of the nodes; every later child begins a new chain."""
    chains: list[Chain] = []
    depths: list[int] = []  # of each node's end
    for index, (start, stop, parent) in enumerate(nodes):
        length = stop - start
        depth = depths[parent] if parent >= 0 else 0
        depths.append(depth + length)
        if index and parent == index - 1:
            chains[-1] = chains[-1]._replace(length=chains[-1].length + length)
        else:
            chains.append(Chain(depth, length))
    return chains
