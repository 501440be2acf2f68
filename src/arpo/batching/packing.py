"""Packs trees into one sequence in which each token occurs once.

Nodes are in depth-first order, so that the tokens below a node follow it without a gap. A token's position is its depth; token
j is visible to token i where `j <= i < end[j]`, with `end[j]` the end of the subtree of j's node. A conversation is a tree with
one leaf.

Example: prompt P (2 tokens) with children a (3) and b (1) packs to [P P a a a b]; positions 0 1 2 3 4 2; ends 6 6 5 5 5 6; the
first token of b is predicted by the last token of P.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arpo.batching.tree_layout import NodeRange, TreeLayout


@dataclass(slots=True, frozen=True)
class PackNode:
    """One node of a tree to pack."""

    parent: int | None
    """Index of the parent in the tree's list; None for the root. Parents come before children, in depth-first order."""
    token_ids: Sequence[int]
    loss_mask: Sequence[bool]
    """True on the targets: tokens whose log-prob is computed."""


@dataclass(slots=True, frozen=True)
class PackedTokens:
    """Trees as one packed sequence of T tokens, N of which are targets."""

    token_ids: Tensor
    """[T] ids."""
    positions: Tensor
    """[T] depth of each token in its tree."""
    targets: Tensor
    """[N] ids whose log-prob is computed, in packing order."""
    predictors: Tensor
    """[N] index of the packed token whose output predicts each target: the previous one on its path."""
    layout: TreeLayout
    """Which keys each token sees."""

    def to(self, device: torch.device) -> "PackedTokens":
        """The same on another device."""
        moved = (t.to(device) for t in (self.token_ids, self.positions, self.targets, self.predictors))
        return PackedTokens(*moved, layout=self.layout.to(device))


def pack_trees(trees: Sequence[Sequence[PackNode]]) -> PackedTokens:
    """The packed form of trees; the module describes the order with an example.

    Raises:
        ValueError: a node is out of depth-first order or has no tokens, or a tree's first token is a target.
    """
    token_ids: list[int] = []
    is_target: list[bool] = []
    nodes: list[NodeRange] = []
    depths: list[int] = []
    for tree in trees:
        root = len(nodes)
        open_path: list[int] = []  # node indices from the root to the node before
        for index, node in enumerate(tree):
            _check(node, index, open_path)
            if node.parent is not None:
                del open_path[open_path.index(node.parent) + 1 :]
            open_path.append(index)
            start, parent = len(token_ids), -1 if node.parent is None else root + node.parent
            depths.append(0 if parent < 0 else depths[parent] + nodes[parent].stop - nodes[parent].start)
            token_ids.extend(node.token_ids)
            is_target.extend(node.loss_mask)
            nodes.append(NodeRange(start, len(token_ids), parent))
    starts = np.array([node.start for node in nodes])
    indices = np.arange(len(token_ids))
    before = indices - 1
    before[starts] = [nodes[node.parent].stop - 1 for node in nodes]
    positions = indices - np.repeat(starts - depths, [node.stop - node.start for node in nodes])
    targets = np.flatnonzero(is_target)
    ids = torch.tensor(token_ids)
    return PackedTokens(
        ids, torch.as_tensor(positions), ids[torch.as_tensor(targets)], torch.as_tensor(before[targets]), TreeLayout(nodes)
    )


def _check(node: PackNode, index: int, open_path: list[int]) -> None:
    if (node.parent is None) != (index == 0) or (index and node.parent not in open_path):
        raise ValueError(f"pack_trees: node {index} with parent {node.parent} is out of depth-first order; renumber the tree")
    if not node.token_ids or len(node.loss_mask) != len(node.token_ids):
        raise ValueError(f"pack_trees: node {index} has {len(node.token_ids)} tokens and a mask of {len(node.loss_mask)}")
    if index == 0 and node.loss_mask[0]:
        raise ValueError("pack_trees: a tree's first token cannot be a target, as no token predicts it")


def split_by_tokens(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of consecutive items in batches of at most `max_tokens`; a larger item gets a separate batch.

    Example: sizes [5, 4, 9, 20, 1] and max_tokens 10 give [[0, 1], [2], [3], [4]].
    """
    batches: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not batches or size > room:
            batches.append([])
            room = max_tokens
        batches[-1].append(index)
        room -= size
    return batches
