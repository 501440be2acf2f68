"""Packed trees with the inputs of a policy loss per trained token and per trajectory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arpo.batching.config import BatchingConfig
from arpo.batching.packing import PackedTokens, PackNode, pack_trees, split_by_tokens
from arpo.batching.parts import part_leaves
from arpo.tree import Node, RolloutTree


@dataclass(slots=True, frozen=True)
class TreeCredit:
    """Weights and advantages of the L trajectories of one tree, in the order of `tree.leaves()`; all in float64."""

    leaf_weights: Tensor
    """[L] weight of every token of each leaf's trajectory in the loss, >= 0."""
    advantages: Tensor
    """[L, nodes] advantage of leaf i on node n, by node id; read where n lies on leaf i's path. Sampled nodes train on it."""
    denominator: float
    """The tree's part of the denominator of its mini-batch's loss."""
    token_scale: Sequence[Tensor | None] | None = None
    """By node id: [T] factor on the advantage of each token of a sampled node; a None, of a node or of all, means 1."""
    is_zero: bool = False
    """True where no leaf has an advantage on a sampled token, so that the policy loss has no gradient."""
    weight_scale: Tensor | None = None
    """[nodes] factor on the weight of each node's tokens, by node id; None: 1. Attribution `once` has 1 / sharers."""
    token_offset: Sequence[Tensor | None] | None = None
    """By node id: [T] added to every leaf's advantage on each token of a sampled node, before `token_scale`; a None, of a node
    or of all, means 0. The KL still to come differs from token to token."""

    @property
    def weights(self) -> Tensor:
        """[L, nodes] weight of each node's tokens in the loss of each leaf; read where the node lies on the leaf's path."""
        weights = self.leaf_weights[:, None].expand(self.advantages.shape)
        return weights if self.weight_scale is None else weights * self.weight_scale


class TokenCredit(NamedTuple):
    """The summed advantages of the leaves that share each token."""

    positive: Tensor
    """[N] S+ = sum of w_i max(f (A_i + o), 0) over the leaves i through the token, f and o being its `token_scale` and
    `token_offset`."""
    negative: Tensor
    """[N] S- = sum of w_i min(f (A_i + o), 0)."""
    weight: Tensor
    """[N] sum of w_i."""


@dataclass(slots=True, frozen=True)
class PolicyBatch:
    """The trees, or parts of trees, of one forward and backward pass.

    N sampled tokens, each once per part however many of its leaves share it; L leaves, each with its whole path; E pairs of a
    leaf and a sampled node on its path. Sampled nodes and leaves are rows, counted over the batch.
    """

    packed: PackedTokens
    """The model's input; its targets are the sampled tokens."""
    num_nodes: int
    """Sampled nodes."""
    node_of: Tensor
    """[N] row of the sampled node each token belongs to."""
    edge_leaf: Tensor
    """[E] row of a leaf."""
    edge_node: Tensor
    """[E] row of a sampled node on that leaf's path."""
    edge_advantages: Tensor
    """[E] advantage of the leaf on the node's tokens."""
    edge_weights: Tensor
    """[E] weight of the node's tokens in the loss of the leaf."""
    leaf_weights: Tensor
    """[L] weight of each token of the leaf's trajectory, where all its tokens have one."""
    leaf_lengths: Tensor
    """[L] sampled tokens of the leaf's trajectory, as float."""
    rollout_logprobs: Tensor
    """[N] log-probs the engine reported."""
    token_scale: Tensor
    """[N] factor on the advantages of each token."""
    token_offset: Tensor | None
    """[N] added to the advantages of each token before the factor; None: 0 for all."""
    is_first: Tensor
    """[N] False where an earlier part of the same tree holds the token too; metrics count the True ones."""

    def to(self, device: torch.device) -> "PolicyBatch":
        """The same on another device."""
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if name != "num_nodes" and value is not None:
                moved[name] = value.to(device)
        return PolicyBatch(**moved)

    def token_credit(self, leaf_scale: Tensor | None = None) -> TokenCredit:
        """Signed sums of the leaves' advantages on each token; `leaf_scale` [L], >= 0, multiplies the leaves' weights.

        For every leaf i, min(rho A_i, clip(rho) A_i) is a function of rho times max(A_i, 0) plus another times min(A_i, 0), so
        a token-level loss needs only these sums of the leaves. A negative `token_scale` swaps the signs.

        Example: leaves of weight 1 and advantages +1 and -0.5 share a completion: on its tokens S+ = 1, S- = -0.5, weight 2; on
        each leaf's own tokens one of the two is 0 and the weight 1.
        """
        weights = self.edge_weights if leaf_scale is None else self.edge_weights * leaf_scale[self.edge_leaf]
        if self.token_offset is None:
            gains, losses, weight = _signed_sums(weights, self.edge_advantages, self.edge_node, self.num_nodes)[:, self.node_of]
        else:
            edge, token = self._tokens_of_edges()
            advantages = self.edge_advantages[edge] + self.token_offset[token]
            gains, losses, weight = _signed_sums(weights[edge], advantages, token, len(self.node_of))
        is_swapped = self.token_scale < 0
        positive, negative = torch.where(is_swapped, losses, gains), torch.where(is_swapped, gains, losses)
        return TokenCredit(self.token_scale * positive, self.token_scale * negative, weight)

    @property
    def token_leaves(self) -> Tensor:
        """[N] row of the one leaf that each token belongs to; the tokens of a leaf are neighbours, in the order of its path.

        Raises:
            ValueError: two leaves share a sampled token.
        """
        if len(self.edge_node) != self.num_nodes:
            raise ValueError(
                f"PolicyBatch.token_leaves: {self.num_nodes} sampled nodes lie on {len(self.edge_node)} paths; it needs "
                f"credit in which one leaf of each token has a weight above 0"
            )
        return self.edge_leaf.new_zeros(self.num_nodes).index_copy(0, self.edge_node, self.edge_leaf)[self.node_of]

    def _tokens_of_edges(self) -> tuple[Tensor, Tensor]:
        """(edge, token) of every sampled token of every leaf; the tokens of a node are in a row."""
        lengths = torch.bincount(self.node_of, minlength=self.num_nodes)
        counts = lengths[self.edge_node]
        edge = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        within = torch.arange(len(edge), device=edge.device) - (counts.cumsum(0) - counts)[edge]
        return edge, (lengths.cumsum(0) - lengths)[self.edge_node][edge] + within

    def leaf_sums(self, values: Tensor) -> Tensor:
        """[L] sum of `values` [N] over the sampled tokens of each leaf's whole path; differentiable.

        Example: values 1 everywhere give `leaf_lengths`.
        """
        of_nodes = values.new_zeros(self.num_nodes).index_add(0, self.node_of, values)
        return values.new_zeros(len(self.leaf_weights)).index_add(0, self.edge_leaf, of_nodes[self.edge_node])


def _signed_sums(weights: Tensor, advantages: Tensor, index: Tensor, size: int) -> Tensor:
    """[3, size] sums over the entries of each index: of w max(A, 0), of w min(A, 0) and of w."""
    weighted = weights * advantages
    parts = torch.stack([weighted.clamp(min=0), weighted.clamp(max=0), weights])
    return parts.new_zeros(3, size).index_add(1, index, parts)


def make_policy_batches(
    trees: Sequence[RolloutTree], credits: Sequence[TreeCredit], config: BatchingConfig
) -> list[PolicyBatch]:
    """The trees as batches of at most `max_tokens` packed tokens, in their order; `part_leaves` cuts larger ones.

    Any loss that is a sum over leaves is the sum over the batches, whatever the packing and the budget. Leaves of weight 0 add
    nothing to it, and are left out.

    Raises:
        ConfigError: a trajectory is longer than `max_tokens`.
    """
    parts = [p for tree, credit in zip(trees, credits, strict=True) for p in _cut(tree, credit, config)]
    batches = split_by_tokens([part.num_tokens for part in parts], config.max_tokens)
    return [_make_batch([parts[i] for i in indices]) for indices in batches]


@dataclass(slots=True, frozen=True)
class _Part:
    """Some leaves of a tree and the nodes on their paths, depth-first."""

    credit: TreeCredit
    leaves: list[int]
    paths: list[list[Node]]
    """The paths of its leaves."""
    nodes: list[Node]
    is_first: list[bool]
    """Per node: True where no earlier part holds it."""

    @property
    def num_tokens(self) -> int:
        return sum(len(node.token_ids) for node in self.nodes)


def _cut(tree: RolloutTree, credit: TreeCredit, config: BatchingConfig) -> list[_Part]:
    paths = [tree.path(leaf) for leaf in tree.leaves()]
    if credit.leaf_weights.shape != (len(paths),) or credit.advantages.shape != (len(paths), len(tree.nodes)):
        raise ValueError(
            f"make_policy_batches: task {tree.task.id!r} has {len(paths)} leaves and {len(tree.nodes)} nodes, but its credit "
            f"has {tuple(credit.leaf_weights.shape)} weights and {tuple(credit.advantages.shape)} advantages"
        )
    parts: list[_Part] = []
    seen: set[int] = set()
    trained = [row for row in range(len(paths)) if credit.leaf_weights[row] > 0]
    for rows in part_leaves(tree, [paths[i] for i in trained], config):
        leaves = [trained[row] for row in rows]
        part_paths = [paths[i] for i in leaves]
        nodes = list({node.id: node for path in part_paths for node in path}.values())
        parts.append(_Part(credit, leaves, part_paths, nodes, [node.id not in seen for node in nodes]))
        seen.update(node.id for node in nodes)
    return parts


def _make_batch(parts: Sequence[_Part]) -> PolicyBatch:
    packs: list[list[PackNode]] = []
    sampled: list[Node] = []
    is_first: list[bool] = []
    edge_leaf: list[int] = []
    edge_node: list[int] = []
    edge_advantages: list[Tensor] = []
    edge_weights: list[Tensor] = []
    leaf_lengths: list[int] = []
    scales: list[Tensor] = []
    offsets: list[Tensor] = []
    for part in parts:
        indices = {node.id: index for index, node in enumerate(part.nodes)}
        packs.append([_pack_node(node, indices) for node in part.nodes])
        rows: dict[int, int] = {}
        for node, first in zip(part.nodes, part.is_first, strict=True):
            if node.is_sampled:
                rows[node.id] = len(sampled)
                sampled.append(node)
                is_first.append(first)
                scales.append(_of_tokens(part.credit.token_scale, node, torch.ones))
                offsets.append(_of_tokens(part.credit.token_offset, node, torch.zeros))
        weights = part.credit.weights
        for leaf, path in zip(part.leaves, part.paths, strict=True):
            on_path = [node for node in path if node.is_sampled]
            edge_leaf += [len(leaf_lengths)] * len(on_path)
            edge_node += [rows[node.id] for node in on_path]
            edge_advantages.append(part.credit.advantages[leaf, [node.id for node in on_path]])
            edge_weights.append(weights[leaf, [node.id for node in on_path]])
            leaf_lengths.append(sum(len(node.token_ids) for node in on_path))
    lengths = torch.tensor([len(node.token_ids) for node in sampled], dtype=torch.long)
    return PolicyBatch(
        packed=pack_trees(packs),
        num_nodes=len(sampled),
        node_of=torch.arange(len(sampled)).repeat_interleave(lengths),
        edge_leaf=torch.tensor(edge_leaf, dtype=torch.long),
        edge_node=torch.tensor(edge_node, dtype=torch.long),
        edge_advantages=torch.cat(edge_advantages).double(),
        edge_weights=torch.cat(edge_weights).double(),
        leaf_weights=torch.cat([part.credit.leaf_weights[part.leaves] for part in parts]).double(),
        leaf_lengths=torch.tensor(leaf_lengths, dtype=torch.float64),
        rollout_logprobs=torch.tensor([x for node in sampled for x in _logprobs(node)], dtype=torch.float64),
        token_scale=torch.cat(scales) if scales else torch.ones(0, dtype=torch.float64),
        token_offset=torch.cat(offsets) if any(part.credit.token_offset for part in parts) else None,
        is_first=torch.tensor(is_first, dtype=torch.bool).repeat_interleave(lengths),
    )


def _pack_node(node: Node, indices: dict[int, int]) -> PackNode:
    parent = None if node.parent is None else indices[node.parent]
    return PackNode(parent, node.token_ids, [node.is_sampled] * len(node.token_ids))


def _of_tokens(values: Sequence[Tensor | None] | None, node: Node, default: Callable[..., Tensor]) -> Tensor:
    value = None if values is None else values[node.id]
    return default(len(node.token_ids), dtype=torch.float64) if value is None else value.double()


def _logprobs(node: Node) -> list[float]:
    if node.logprobs is None or len(node.logprobs) != len(node.token_ids):
        raise ValueError(f"make_policy_batches: node {node.id} has {len(node.token_ids)} tokens but not as many log-probs")
    return node.logprobs
