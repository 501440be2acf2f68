"""The clipped surrogate of PPO and its gradient-preserving forms, for tokens that several trajectories share."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.losses.base import PolicyLoss

ClipMode = Literal["hard", "gppo"]

_MAX_LOG_RATIO = 20.0


def ppo_clip_loss(
    log_ratio: Float[Tensor, " tokens"],
    positive: Float[Tensor, " tokens"],
    negative: Float[Tensor, " tokens"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    low_mode: ClipMode = "hard",
    high_mode: ClipMode = "hard",
    dual_clip: float | None = None,
) -> PolicyLoss:
    """PPO's clipped loss, summed over the trajectories that share each token.

    Formula: with rho = exp(log_ratio), S+ = sum_i w_i max(A_i, 0) and S- = sum_i w_i min(A_i, 0) over the sharers,
    loss = -(min(rho, 1 + clip_high) S+ + max(rho, 1 - clip_low) S-). For every i, min(rho A, clip(rho) A) is
    min(rho, 1 + clip_high) A when A >= 0 and max(rho, 1 - clip_low) A otherwise, so this is exactly the sum of
    w_i * PPO's objective (arXiv:1707.06347, eq. 7) over the sharers: ARPO's soft attribution (arXiv:2507.19849, section 3)
    with one forward pass per token.
    The modes change no value, only the gradient -F * S * d log_ratio:

        F, by mode                      hard    gppo
        rho > 1 + clip_high and A > 0   0       1 + clip_high
        rho < 1 - clip_low  and A < 0   0       1 - clip_low
        otherwise                       rho     rho

    (low, high) = (hard, hard) is PPO; with clip_high 0.28, DAPO (arXiv:2503.14476); (hard, gppo) is AEPO (arXiv:2510.14545);
    (gppo, gppo) is GPPO (arXiv:2508.07629).
    `dual_clip` c (arXiv:1912.09729) clamps rho at c where A < 0, without gradient beyond, in either mode; A > 0 is unaffected.
    `clip_low` and `clip_high` are distances from 1; at a bound itself the gradient is that of the unclipped side (F = rho).
    Ratios are clipped as logarithms, so that none overflows; without a dual clip rho is clamped at e^20 where A < 0, without
    gradient beyond, as S- would let it grow without bound (as in verl).

    Args:
        log_ratio: Current minus old log-prob of each token.
        positive: S+ of each token, >= 0.
        negative: S- of each token, <= 0.
        clip_low: Lower bound 1 - clip_low, where lower ratios would reduce the loss; in (0, 1).
        clip_high: Upper bound 1 + clip_high, where higher ratios would reduce the loss; > 0.
        low_mode: Gradient below the lower bound.
        high_mode: Gradient above the upper bound.
        dual_clip: Largest ratio where A < 0, > 1; None: e^20. The released ARPO and AEPO code has 3.

    Example: rho = 1.5, S+ = 2, S- = -1, bounds 0.2: -(1.2 * 2 + 1.5 * -1) = -0.9, and only S- has a gradient; with
    high_mode "gppo" S+ has the gradient -1.2 * 2 as well.
    """
    high, low = math.log1p(clip_high), math.log1p(-clip_low)
    cap = _MAX_LOG_RATIO if dual_clip is None else math.log(dual_clip)
    raised = log_ratio.clamp(max=high)
    if high_mode == "gppo":
        raised = _with_gradient_of(raised, log_ratio)
    capped = log_ratio.clamp(max=cap)
    lowered = capped.clamp(min=low)
    if low_mode == "gppo":
        lowered = _with_gradient_of(lowered, capped)
    return PolicyLoss(
        loss=-(raised.exp() * positive + lowered.exp() * negative),
        is_clipped_high=((log_ratio > high) & (positive > 0)) | ((log_ratio > cap) & (negative < 0)),
        is_clipped_low=(log_ratio < low) & (negative < 0),
    )


def _with_gradient_of(value: Tensor, source: Tensor) -> Tensor:
    # source - source.detach() is 0 to the last bit: adding source to a difference would round huge ratios' values.
    return value.detach() + (source - source.detach())
