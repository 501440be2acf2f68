"""Packs trees into one sequence in which each token occurs once.

Nodes lie in depth-first order. The nodes a leaf does not share with the leaf before it are contiguous and end its path, so
attention is computed leaf by leaf: the leaf's own tokens are queries, its whole path are keys. The cost is the sum over nodes
of node length x path length; no mask over the whole pack exists. A conversation is a tree with one leaf.

Example: prompt P (2 tokens) with children a (3) and b (1) packs to [P P a a a b]; positions 0 1 2 3 4 2; leaf a's own tokens
are 0..4, leaf b's own token is 5 with path 0 1 5; the first token of b is predicted by the last token of P.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arpo.batching.tree_layout import LeafSpan, TreeLayout


@dataclass(slots=True, frozen=True)
class PackNode:
    """One node of a tree to pack."""

    parent: int | None
    """Index of the parent in the tree's list; None for the root. Parents come before children, in depth-first order."""
    token_ids: Sequence[int]
    loss_mask: Sequence[bool]
    """True on the tokens whose log-prob is wanted."""


@dataclass(slots=True, frozen=True)
class PackedTokens:
    """Trees as one packed sequence of T tokens, N of which are targets."""

    token_ids: Tensor
    """[T] ids."""
    positions: Tensor
    """[T] depth of each token in its tree."""
    targets: Tensor
    """[N] ids whose log-prob is wanted, in packing order."""
    predictors: Tensor
    """[N] index of the packed token whose output predicts each target: the one before it on its path."""
    layout: TreeLayout
    """Which keys each token sees."""

    def to(self, device: torch.device) -> "PackedTokens":
        """The same on another device."""
        moved = (t.to(device) for t in (self.token_ids, self.positions, self.targets, self.predictors))
        return PackedTokens(*moved, layout=self.layout.to(device))


def pack_trees(trees: Sequence[Sequence[PackNode]]) -> PackedTokens:
    """The packed form of some trees; see the module for the order and an example.

    Raises:
        ValueError: a node comes before its parent, out of depth-first order, without tokens, or wants its tree's first token
            predicted.
    """
    token_ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    predictors: list[int] = []
    spans: list[LeafSpan] = []
    for nodes in trees:
        paths: list[list[int]] = []
        open_path: list[int] = []  # node indices from the root to the node before
        leaf_start = len(token_ids)
        for index, node in enumerate(nodes):
            _check(node, index, open_path)
            if index and node.parent != open_path[-1]:
                spans.append(LeafSpan(leaf_start, torch.tensor(paths[-1])))
                leaf_start = len(token_ids)
                del open_path[open_path.index(node.parent) + 1 :]  # pyright: ignore[reportArgumentType]
            open_path.append(index)
            before = paths[node.parent] if node.parent is not None else []
            own = list(range(len(token_ids), len(token_ids) + len(node.token_ids)))
            path = [*before, *own]
            paths.append(path)
            token_ids.extend(node.token_ids)
            positions.extend(range(len(before), len(path)))
            for offset, wanted in enumerate(node.loss_mask):
                if wanted:
                    targets.append(node.token_ids[offset])
                    predictors.append(path[len(before) + offset - 1])
        spans.append(LeafSpan(leaf_start, torch.tensor(paths[-1])))
    return PackedTokens(
        torch.tensor(token_ids), torch.tensor(positions), torch.tensor(targets), torch.tensor(predictors), TreeLayout(spans)
    )


def _check(node: PackNode, index: int, open_path: list[int]) -> None:
    if (node.parent is None) != (index == 0) or (index and node.parent not in open_path):
        raise ValueError(f"pack_trees: node {index} with parent {node.parent} is out of depth-first order; renumber the tree")
    if not node.token_ids or len(node.loss_mask) != len(node.token_ids):
        raise ValueError(f"pack_trees: node {index} has {len(node.token_ids)} tokens and a mask of {len(node.loss_mask)}")
    if index == 0 and node.loss_mask[0]:
        raise ValueError("pack_trees: nothing comes before a tree's first token, so nothing predicts it")


def split_by_tokens(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of consecutive items in batches of at most `max_tokens`; an item larger than that has a batch of its own.

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
