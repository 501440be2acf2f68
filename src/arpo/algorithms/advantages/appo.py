"""APPO's advantage: two groups, and a factor that grows with the likelihood the rest of the trajectory gained."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arpo.algorithms.advantages.baselines import group_mean_baseline
from arpo.algorithms.advantages.scale import group_std


def appo_advantages(
    rewards: Float[Tensor, " leaves"], is_branch: Bool[Tensor, " leaves"], *, normalize_std: bool = True, epsilon: float = 1e-6
) -> Float[Tensor, " leaves"]:
    """The advantage of each trajectory from the prompt, compared with the others and with the branches; 0 for branches.

    Formula: A_n = avg((r_n - mean r) / (std r + epsilon) over the trajectories from the prompt, the same over the branches).
    Source: APPO, arXiv:2606.12384, eq. 6: two groups, as two policies drew them; branches are not trained (eq. 8). The authors'
    code reads otherwise: there the tokens before a fork get the branch's own advantage among the branches besides.
    Choices: std with n - 1 (`group_std`); a group of equal rewards compares nothing and gives 0 to the average, unless
    `normalize_std` is off; without branches the average is of the one group.

    Args:
        rewards: Rewards of one group.
        is_branch: True where a leaf began at a fork, False where it began at the prompt.
        normalize_std: Divide by the standard deviations.
        epsilon: Added to each of them.

    Example, without std: trajectories from the prompt with rewards 1 and 0 (mean 1/2), branches with 0, 1 and 0 (mean 1/3): the
    first has (1/2 + 2/3) / 2 = 7/12, the second (-1/2 - 1/3) / 2 = -5/12.
    """
    compared: list[Tensor] = []
    for members in (rewards[~is_branch], rewards[is_branch]):
        if len(members):
            centred = rewards - group_mean_baseline(members)[0]
            std = group_std(members) if normalize_std else None
            compared.append(centred if std is None else torch.where(std > 0, centred / (std + epsilon), 0.0))
    return torch.where(is_branch, 0.0, torch.stack(compared).mean(dim=0)) if compared else rewards.clone()


def future_scale(
    log_ratio: Float[Tensor, " tokens"],
    trajectories: Int[Tensor, " tokens"],
    *,
    weight: float = 0.5,
    clip_low: float = 0.0,
    clip_high: float = 0.2,
    half_life: float = 32.0,
) -> Float[Tensor, " tokens"]:
    """Factor on each token's advantage: larger where the rest of the trajectory has become likelier.

    Formula: 1 + b A_fut,t, A_fut,t = clip(exp(sum_(k >= t) gamma^(k - t) log_ratio_k), 1 - clip_low, 1 + clip_high), gamma =
    2^(-1 / half_life). Source: APPO, arXiv:2606.12384, eq. 7, with its numbers (appendix C): b = 0.5, gamma = 2^(-1/32) and the
    bounds [1, 1.2] of its implementation, where its formula has 1 - e' and 1 + e'. Choices: sampled tokens alone are counted;
    the factor has no gradient. Before the first update of a step every ratio is 1 and every factor 1 + b. The safeguards of the
    authors' code (b = 1 and 64 tokens in its scripts) are left out: tokens with a ratio above 3 stay in the sum, and the factor
    of negative advantages has no bound of its own.

    Args:
        log_ratio: Log-prob now minus that before the step, of the sampled tokens of each trajectory in order.
        trajectories: Number of the trajectory of each token; its tokens are neighbours.
        weight: b.
        clip_low: Distance below 1 at which A_fut is clipped.
        clip_high: Distance above 1 at which it is.
        half_life: Distance, in sampled tokens, at which a token counts half.

    Example, half_life 1 (gamma 1/2), b = 1, log-ratios [0.1, -0.2, 0.4] of one trajectory: sums [0.1, 0, 0.4], A_fut
    [1.1052, 1, 1.2] as exp(0.4) = 1.49 is clipped, factors [2.1052, 2, 2.2].
    """
    sums = _discounted_sums(log_ratio.detach(), trajectories, 2 ** (-1 / half_life))
    return 1 + weight * sums.exp().clamp(1 - clip_low, 1 + clip_high)


def _discounted_sums(values: Tensor, trajectories: Tensor, discount: float) -> Tensor:
    """sum_(k >= t) discount^(k - t) values_k within the trajectory of t, by doubling the span that each sum covers."""
    sums, span = values, 1
    while span < len(values):
        is_same = trajectories[span:] == trajectories[:-span]
        further = torch.where(is_same, discount**span * sums[span:], 0.0)
        sums = torch.cat([sums[:-span] + further, sums[-span:]])
        span *= 2
    return sums
