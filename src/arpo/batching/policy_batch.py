"""Packed trees with what the policy loss needs of each trained token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arpo.batching.packing import PackedTokens, PackNode, pack_trees, split_by_tokens
from arpo.tree import RolloutTree


@dataclass(slots=True, frozen=True)
class PolicyBatch:
    """Trees of one forward and backward pass; N sampled tokens, each once however many leaves share it."""

    packed: PackedTokens
    positive: Tensor
    """[N] S+ = sum over the leaves below of weight * max(advantage, 0)."""
    negative: Tensor
    """[N] S- = sum over the leaves below of weight * min(advantage, 0)."""
    rollout_logprobs: Tensor
    """[N] log-probs the engine reported."""

    def to(self, device: torch.device) -> "PolicyBatch":
        """The same on another device."""
        tensors = (t.to(device) for t in (self.positive, self.negative, self.rollout_logprobs))
        return PolicyBatch(self.packed.to(device), *tensors)


def make_policy_batches(trees: Sequence[RolloutTree], max_tokens: int) -> list[PolicyBatch]:
    """The trees as batches of at most `max_tokens` unique tokens; a larger tree is a batch of its own.

    Example: a prompt with leaves of weight 1 and advantages +1 and -0.5 that share a completion: on its tokens S+ = 1 and
    S- = -0.5; on each leaf's own tokens one of the two is 0.
    """
    batches = split_by_tokens([tree.num_unique_tokens for tree in trees], max_tokens)
    return [_make_batch([trees[i] for i in indices]) for indices in batches]


def signed_weights(tree: RolloutTree) -> tuple[list[float], list[float]]:
    """S+ and S- of every node, from the credit on the leaves."""
    positive, negative = [0.0] * len(tree.nodes), [0.0] * len(tree.nodes)
    for leaf in tree.leaves():
        if leaf.weight is None or leaf.advantage is None:
            raise ValueError(f"signed_weights: leaf {leaf.id} of task {tree.task.id!r} has no credit; call assign_credit first")
        credit = leaf.weight * leaf.advantage
        for node in tree.path(leaf):
            positive[node.id] += max(credit, 0.0)
            negative[node.id] += min(credit, 0.0)
    return positive, negative


def _make_batch(trees: Sequence[RolloutTree]) -> PolicyBatch:
    packs: list[list[PackNode]] = []
    positive: list[float] = []
    negative: list[float] = []
    rollout_logprobs: list[float] = []
    for tree in trees:
        packs.append([PackNode(n.parent, n.token_ids, [n.is_sampled] * len(n.token_ids)) for n in tree.nodes])
        node_positive, node_negative = signed_weights(tree)
        for node in (n for n in tree.nodes if n.is_sampled):
            positive += [node_positive[node.id]] * len(node.token_ids)
            negative += [node_negative[node.id]] * len(node.token_ids)
            rollout_logprobs += node.logprobs or []
    return PolicyBatch(pack_trees(packs), *(torch.tensor(v) for v in (positive, negative, rollout_logprobs)))
