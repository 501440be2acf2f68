"""Baselines, which a leaf's advantage subtracts from its reward.

Every mean here is computed from differences to the first reward, so that equal rewards give that reward to the last bit and an
advantage of exactly 0: a rounding error divided by a standard deviation of 0 plus epsilon would be a false signal.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def group_mean_baseline(
    rewards: Float[Tensor, " leaves"], weights: Float[Tensor, " leaves"] | None = None
) -> Float[Tensor, " leaves"]:
    """The group's (weighted) mean reward, once per leaf.

    Formula: b_i = sum_j v_j r_j / sum_j v_j. Source: GRPO, arXiv:2402.03300, section 4.1, without weights. The mean
    includes the leaf's own reward: with independent leaves the gradient is (n - 1) / n of the true one, unbiased in direction.

    Args:
        rewards: Rewards of one group.
        weights: Positive, at any scale; None: all equal.

    Example: rewards [1, 0, 0, 1] give 0.5; with weights [3, 1, 1, 1], 4/6.
    """
    first = rewards[:1]
    shifted = rewards - first
    mean = shifted.mean() if weights is None else (weights * shifted).sum() / weights.sum()
    return (first + mean).expand_as(rewards)


def leave_one_out_baseline(rewards: Float[Tensor, " leaves"]) -> Float[Tensor, " leaves"]:
    """Per leaf, the mean reward of the other leaves.

    Formula: b_i = sum_(j != i) r_j / (n - 1), so r_i - b_i = n / (n - 1) * (r_i - mean r). Source: RLOO, arXiv:2402.14740.
    A group of one gets its own reward as baseline, so advantage 0 (verl and TRL use the raw reward).
    Unbiased for independent leaves; not on a tree, where siblings' rewards depend on the tokens they share: there use
    `subtree_out_baseline`.

    Example: rewards [1, 0, 0.5] give [0.25, 0.75, 0.5].
    """
    if len(rewards) < 2:
        return rewards.clone()
    shifted = rewards - rewards[0]
    return rewards[0] + (shifted.sum() - shifted) / (len(rewards) - 1)


def subtree_out_baseline(
    rewards: Float[Tensor, " leaves"], weights: Float[Tensor, " leaves"] | None, below: Bool[Tensor, "leaves nodes"]
) -> Float[Tensor, " nodes"]:
    """Per node, the (weighted) mean reward of the leaves that do not pass it.

    Formula: b_n = sum_(i: n not on i's path) v_i r_i / sum_(i: n not on i's path) v_i. A node's tokens
    influence only the rewards below it, so these rewards are independent of the tokens that the baseline is applied to.
    A node that every leaf passes has no leaf outside: its baseline is 0. A constant adds no bias, whereas any mean of the
    rewards below would; it costs variance, and a group of equal rewards has a non-zero advantage there.

    Args:
        rewards: Rewards of one group.
        weights: Positive, at any scale; None: all equal.
        below: True where leaf i passes node n.

    Example: rewards [1, 0, 0.5] and a node that leaves 0 and 1 pass: 0.5; one that leaf 2 alone passes: 0.5; the root: 0.
    """
    if rewards.numel() == 0:
        return rewards.new_zeros(below.shape[1])
    outside = (~below).to(rewards.dtype) if weights is None else weights[:, None] * ~below
    total = outside.sum(dim=0)
    shifted = (outside * (rewards - rewards[0])[:, None]).sum(dim=0)
    is_alone = total == 0
    return torch.where(is_alone, 0.0, rewards[0] + shifted / total.masked_fill(is_alone, 1.0))
