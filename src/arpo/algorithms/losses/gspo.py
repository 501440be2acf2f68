"""GSPO: PPO's clip with one ratio per trajectory."""

from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.losses.base import PolicyLoss
from arpo.algorithms.losses.ppo_clip import ppo_clip_loss


def sequence_log_ratio(
    sum_log_ratio: Float[Tensor, " leaves"], num_tokens: Float[Tensor, " leaves"]
) -> Float[Tensor, " leaves"]:
    """Logarithm of GSPO's ratio: the mean log-ratio of a trajectory's sampled tokens.

    Formula: ln s_i = sum_t (ln pi_t - ln pi_old,t) / l_i, so s_i = (pi(y_i) / pi_old(y_i))^(1 / l_i). Source: GSPO,
    arXiv:2507.18071, eq. 7. A trajectory without sampled tokens has ratio 1.

    Args:
        sum_log_ratio: Sum of the log-ratios over the sampled tokens of each leaf's whole path.
        num_tokens: Number of these tokens.

    Example: log-ratios 0.3 and -0.1: 0.2 / 2 = 0.1.
    """
    return sum_log_ratio / num_tokens.clamp(min=1)


def gspo_loss(
    sequence_log_ratio: Float[Tensor, " leaves"],
    advantages: Float[Tensor, " leaves"],
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> PolicyLoss:
    """PPO's clipped loss on each trajectory's ratio; rows are leaves, not tokens.

    Formula: loss_i = -min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i). Source: GSPO, arXiv:2507.18071, eq. 5. Gradient
    inside the bounds: -s_i A_i / l_i on every token's log-prob.
    It is the mean over the trajectory's tokens: the caller multiplies by w_i * l_i, so that every aggregation has the same
    meaning as for token losses. Leaves cannot be added before, as a shared token contributes to the ratio of each.

    Args:
        sequence_log_ratio: ln s_i (see `sequence_log_ratio`), with gradient.
        advantages: A_i, one per leaf; this loss has no advantages of single tokens.
        clip_low: In (0, 1); 3e-4 in the paper.
        clip_high: > 0; 4e-4 in the paper.

    Example: ln s = 0.1, A = 2, bounds 0.2: loss -1.1052 * 2 = -2.2103; with bounds 0.05: -1.05 * 2 without gradient.
    """
    return ppo_clip_loss(
        sequence_log_ratio, advantages.clamp(min=0), advantages.clamp(max=0), clip_low=clip_low, clip_high=clip_high
    )
