"""Advantages of the leaves of a group, one family per file."""

from arpo.algorithms.advantages.appo import appo_advantages, future_scale
from arpo.algorithms.advantages.baselines import group_mean_baseline, leave_one_out_baseline, subtree_out_baseline
from arpo.algorithms.advantages.costs import costs_to_go
from arpo.algorithms.advantages.entropy import entropy_scale
from arpo.algorithms.advantages.gigpo import step_group_advantages, step_returns
from arpo.algorithms.advantages.group import group_normalized_advantages
from arpo.algorithms.advantages.scale import group_std, normalize_batch
from arpo.algorithms.advantages.tree_grpo import tree_grpo_advantages
from arpo.algorithms.advantages.treerl import treerl_advantages

__all__ = [
    "appo_advantages",
    "costs_to_go",
    "entropy_scale",
    "future_scale",
    "group_mean_baseline",
    "group_normalized_advantages",
    "group_std",
    "leave_one_out_baseline",
    "normalize_batch",
    "step_group_advantages",
    "step_returns",
    "subtree_out_baseline",
    "tree_grpo_advantages",
    "treerl_advantages",
]
