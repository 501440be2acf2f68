"""The clipped surrogate of PPO, for tokens that several trajectories share."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_MAX_LOG_RATIO = 20.0


class PolicyLoss(NamedTuple):
    """A loss per token and where clipping removed the gradient."""

    loss: Float[Tensor, " tokens"]
    is_clipped_high: Bool[Tensor, " tokens"]
    """Ratio above 1 + clip_high while some sharer's advantage is positive: that part has no gradient."""
    is_clipped_low: Bool[Tensor, " tokens"]
    """Ratio below 1 - clip_low while some sharer's advantage is negative."""


def ppo_clip_loss(
    log_ratio: Float[Tensor, " tokens"],
    positive: Float[Tensor, " tokens"],
    negative: Float[Tensor, " tokens"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> PolicyLoss:
    """Minus the clipped surrogate, summed over the trajectories that share each token.

    Formula: with rho = exp(log_ratio), S+ = sum_i w_i max(A_i, 0) and S- = sum_i w_i min(A_i, 0) over the sharers,
    loss = -(min(rho, 1 + clip_high) S+ + max(rho, 1 - clip_low) S-). For every i, min(rho A, clip(rho) A) is
    min(rho, 1 + clip_high) A when A >= 0 and max(rho, 1 - clip_low) A otherwise, so this is exactly the sum of
    w_i * PPO's objective (arXiv:1707.06347, eq. 7) over the sharers: ARPO's soft attribution (arXiv:2507.19849, section 3)
    with one forward pass per token.
    `clip_low` and `clip_high` are distances from 1; at a bound itself the gradient is that of the unclipped side. Ratios are
    clipped as logarithms, so that none overflows, and rho is held at e^20, beyond which it has no gradient, where S- would let
    it grow without bound (verl too).

    Args:
        log_ratio: Current minus old log-prob of each token.
        positive: S+ of each token, >= 0.
        negative: S- of each token, <= 0.
        clip_low: Ratios are kept above 1 - clip_low where lowering them would pay.
        clip_high: Ratios are kept below 1 + clip_high where raising them would pay.

    Example: rho = 1.5, S+ = 2, S- = -1, bounds 0.2: -(1.2 * 2 + 1.5 * -1) = -0.9, and only S- has a gradient.
    """
    high, low = math.log1p(clip_high), math.log1p(-clip_low)
    raised = log_ratio.clamp(max=high).exp() * positive
    lowered = log_ratio.clamp(min=low, max=_MAX_LOG_RATIO).exp() * negative
    return PolicyLoss(
        loss=-(raised + lowered),
        is_clipped_high=(log_ratio > high) & (positive > 0),
        is_clipped_low=(log_ratio < low) & (negative < 0),
    )


def mismatch_kl(logprobs: Float[Tensor, " tokens"], rollout_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Estimate of KL(engine || trainer) per sampled token, nats: how far the engine's probabilities are from the trainer's.

    Formula: k3 = exp(d) - 1 - d with d = ln p_trainer - ln p_engine; >= 0, 0 where they agree (Schulman 2020, "Approximating
    KL divergence").
    """
    difference = logprobs.detach() - rollout_logprobs
    return torch.expm1(difference) - difference
