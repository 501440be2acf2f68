"""CISPO: REINFORCE with a clipped, detached importance weight."""

import math

from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.losses.base import PolicyLoss


def cispo_loss(
    logprobs: Float[Tensor, " tokens"],
    log_ratio: Float[Tensor, " tokens"],
    positive: Float[Tensor, " tokens"],
    negative: Float[Tensor, " tokens"],
    *,
    clip_low: float | None = None,
    clip_high: float,
) -> PolicyLoss:
    """Negative log-prob of each token, times its summed advantages and its clipped ratio as a constant.

    Formula: loss = -sg(clip(rho, 1 - clip_low, 1 + clip_high)) (S+ + S-) ln pi; the gradient factor F is the clipped ratio,
    whatever the sign of the advantage. Source: CISPO, MiniMax-M1, arXiv:2506.13585, section 3.1. The weight does not depend
    on the sign, so sharers' advantages may be added.
    Bounds are distances from 1, as in every loss here; TRL's `epsilon_high` for CISPO is the bound itself, 1 + clip_high.

    Args:
        logprobs: Log-probs of the tokens, with gradient.
        log_ratio: Current minus old log-prob; its gradient is not used.
        positive: S+ of each token, >= 0.
        negative: S- of each token, <= 0.
        clip_low: In (0, 1); None: no lower bound, as in the paper's runs.
        clip_high: > 0.

    Example: rho = 3, bound 1 + 1 = 2, ln pi = -0.5, S+ + S- = 1: loss 2 * 0.5 = 1, gradient -2.
    """
    low, high = None if clip_low is None else math.log1p(-clip_low), math.log1p(clip_high)
    fixed = log_ratio.detach()
    is_trained = (positive > 0) | (negative < 0)
    below = fixed < (-math.inf if low is None else low)
    return PolicyLoss(
        loss=-fixed.clamp(min=low, max=high).exp() * (positive + negative) * logprobs,
        is_clipped_high=(fixed > high) & is_trained,
        is_clipped_low=below & is_trained,
    )
