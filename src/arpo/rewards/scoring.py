"""Writes rewards on the leaves of finished trees."""

from collections.abc import Sequence
from statistics import fmean

from arpo.rewards.base import RewardFn
from arpo.tree import RolloutTree


def score_tree(tree: RolloutTree, reward_fn: RewardFn) -> None:
    """Score every leaf: reward, components and reason."""
    for trajectory in tree.trajectories():
        reward = reward_fn(trajectory)
        leaf = trajectory.leaf
        leaf.reward = reward.value
        leaf.reward_components = dict(reward.components)
        leaf.reward_reason = reward.reason


def mean_scores(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Means over all leaves of scored trees: `reward_mean`, `accuracy` (exact match), `f1`, `format_valid_rate`.

    A component the reward function does not give counts as 0.
    """
    leaves = [leaf for tree in trees for leaf in tree.leaves()]

    def mean(component: str) -> float:
        return fmean(leaf.reward_components.get(component, 0.0) for leaf in leaves)

    return {
        "reward_mean": fmean(leaf.reward or 0.0 for leaf in leaves),
        "accuracy": mean("exact_match"),
        "f1": mean("f1"),
        "format_valid_rate": mean("format"),
    }
