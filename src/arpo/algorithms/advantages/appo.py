"""APPO's advantage: two groups, and a factor that grows with the likelihood the rest of the trajectory gained."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arpo.algorithms.advantages.group import group_normalized_advantages


def appo_advantages(
    rewards: Float[Tensor, " leaves"],
    is_branch: Bool[Tensor, " leaves"],
    below: Bool[Tensor, "leaves nodes"],
    *,
    normalize_std: bool = True,
    epsilon: float = 1e-6,
) -> Float[Tensor, "leaves nodes"]:
    """The advantage of each trajectory from the prompt on the nodes of its path; 0 for branches, which are not trained.

    Formula: A_in = A_init(i) + mean of A_branch(m) over the branches m that pass n, 0 where none does. A_init compares the
    trajectories from the prompt with each other, A_branch the branches of the task with each other, each as (r - mean) /
    (std + epsilon). Source: APPO, arXiv:2606.12384, dual-group advantage: branches inform the tokens they share with their
    original and have no loss of their own; the mean is that of the authors' code. Choices: std with n - 1 (the code has n). The
    code's factor on rewards before a fork, 1 + (score / highest score) * 0.9^distance, is not in the paper and left out.

    Args:
        rewards: Rewards of one group.
        is_branch: True where a leaf began at a fork, False where it began at the prompt.
        below: True where leaf i passes node n.
        normalize_std: Divide by the standard deviations.
        epsilon: Added to each of them.

    Example, without std: trajectories from the prompt with rewards 1 and 0, A_init = [1/2, -1/2]; the first has two branches
    with rewards 0 and 1, the second one with 0, A_branch = [-1/3, 2/3, -1/3]. Where both branches pass, the first has
    1/2 + 1/6 = 2/3; where its second one alone does, 1/2 + 2/3; behind its last fork 1/2.
    """
    base = torch.zeros_like(rewards)
    for members in (~is_branch, is_branch):
        base[members] = group_normalized_advantages(rewards[members], normalize_std=normalize_std, epsilon=epsilon)
    passing = (below & is_branch[:, None]).to(rewards.dtype)
    of_branches = (passing * base[:, None]).sum(dim=0) / passing.sum(dim=0).clamp(min=1)
    return torch.where(is_branch[:, None], 0.0, base[:, None] + of_branches)


def future_scale(
    log_ratio: Float[Tensor, " tokens"],
    trajectories: Int[Tensor, " tokens"],
    *,
    weight: float = 1.0,
    clip: float = 0.2,
    half_life: float = 64.0,
) -> Float[Tensor, " tokens"]:
    """Factor on each token's advantage: larger where the rest of the trajectory has become likelier.

    Formula: 1 + b A_fut,t, A_fut,t = clip(exp(sum_(k >= t) gamma^(k - t) log_ratio_k), 1 - clip, 1 + clip), gamma =
    2^(-1 / half_life). Source: APPO, arXiv:2606.12384, future-aware advantage scaling. We found no numbers of the paper: b = 1,
    a clip of 0.2 and a half-life of 64 tokens are those of the authors' scripts, which keep the lower bound at 1. Choices:
    sampled tokens alone are counted, and the factor has no gradient. Before the first update of a step every ratio is 1 and
    every factor 1 + b. Of the code's safeguards none is taken over: tokens with a ratio above 3 stay in the sum, and the factor
    of negative advantages has no bound of its own.

    Args:
        log_ratio: Log-prob now minus that before the step, of the sampled tokens of each trajectory in order.
        trajectories: Number of the trajectory of each token; its tokens are neighbours.
        weight: b.
        clip: Distance from 1 at which A_fut is clipped.
        half_life: Distance, in sampled tokens, at which a token counts half.

    Example, half_life 1 (gamma 1/2), b = 1, log-ratios [0.1, -0.2, 0.4] of one trajectory: sums [0.1, 0, 0.4], A_fut
    [1.1052, 1, 1.2] as exp(0.4) = 1.49 is clipped, factors [2.1052, 2, 2.2].
    """
    sums = _discounted_sums(log_ratio.detach(), trajectories, 2 ** (-1 / half_life))
    return 1 + weight * sums.exp().clamp(1 - clip, 1 + clip)


def _discounted_sums(values: Tensor, trajectories: Tensor, discount: float) -> Tensor:
    """sum_(k >= t) discount^(k - t) values_k within the trajectory of t, by doubling the span that each sum covers."""
    sums, span = values, 1
    while span < len(values):
        is_same = trajectories[span:] == trajectories[:-span]
        further = torch.where(is_same, discount**span * sums[span:], 0.0)
        sums = torch.cat([sums[:-span] + further, sums[-span:]])
        span *= 2
    return sums
