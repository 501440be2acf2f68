"""Turns the rewards of scored trees into advantages and weights on their nodes."""

from collections.abc import Sequence

import torch

from arpo.algorithms.advantages import group_normalized_advantages
from arpo.algorithms.aggregation import leaf_weights
from arpo.training.config import AdvantageConfig, LossConfig
from arpo.tree import RolloutTree


def assign_credit(trees: Sequence[RolloutTree], advantage: AdvantageConfig, loss: LossConfig) -> float:
    """Write `advantage` and `weight` on every node of the trees; return the denominator of the whole batch.

    A leaf gets its group's normalised advantage and its aggregation weight. An inner node gets the sum of the weights below it
    and the weighted mean of the advantages below it.
    """
    trajectories = [t for tree in trees for t in tree.trajectories()]
    weights, denominator = leaf_weights([t.num_sampled_tokens for t in trajectories], loss.aggregation)
    by_leaf = iter(weights)
    for tree in trees:
        leaves = tree.leaves()
        rewards = torch.tensor([leaf.reward for leaf in leaves], dtype=torch.float64)
        advantages = group_normalized_advantages(
            rewards, normalize_std=advantage.normalize_std, epsilon=advantage.epsilon
        ).tolist()
        for node in tree.nodes:
            node.weight, node.advantage = 0.0, 0.0
        for leaf, value in zip(leaves, advantages, strict=True):
            weight = next(by_leaf)
            for node in tree.path(leaf):
                node.weight += weight  # pyright: ignore[reportOperatorIssue]
                node.advantage += weight * value  # pyright: ignore[reportOperatorIssue]
        for node in tree.nodes:
            node.advantage /= node.weight  # pyright: ignore[reportOperatorIssue]
    return denominator


def has_signal(tree: RolloutTree) -> bool:
    """Whether training on the tree would move the policy: some leaf's advantage is not 0."""
    return any(leaf.advantage for leaf in tree.leaves())
