"""Engine and trainer compute different probabilities from the same weights: the size of the mismatch, and its correction.

d = ln p_trainer - ln p_engine of a sampled token, with the trainer's old log-probs: those before the step's first update.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def mismatch_kl(logprobs: Float[Tensor, " tokens"], rollout_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Estimate of KL(engine || trainer) per sampled token, nats.

    Formula: k3 = exp(d) - 1 - d; >= 0, 0 where they agree (Schulman 2020, "Approximating KL divergence"). Detached.
    """
    difference = logprobs.detach() - rollout_logprobs
    return torch.expm1(difference) - difference


def token_importance_weights(
    logprobs: Float[Tensor, " tokens"], rollout_logprobs: Float[Tensor, " tokens"], cap: float
) -> Float[Tensor, " tokens"]:
    """Truncated importance weight of each token, a factor of its loss. Detached.

    Formula: min(exp(d), cap). Source: truncated importance sampling, Yao et al. 2025, "Your efficient RL framework secretly
    brings you off-policy RL training" (verl's `tis`). The logarithm is clamped, so no ratio overflows; there is no lower bound.

    Args:
        logprobs: The trainer's old log-probs.
        rollout_logprobs: The engine's.
        cap: Largest weight, > 0; 2 is usual.

    Example: p_trainer / p_engine of [0.5, 1, 3] at cap 2: [0.5, 1, 2].
    """
    return (logprobs.detach() - rollout_logprobs.detach()).clamp(max=math.log(cap)).exp()


def sequence_importance_weights(sum_difference: Float[Tensor, " leaves"], cap: float) -> Float[Tensor, " leaves"]:
    """Truncated importance weight of each trajectory, one for all its tokens. Detached.

    Formula: min(exp(sum_t d_t), cap), summed over the sampled tokens of the leaf's whole path. Leaves that share tokens have
    different weights, so it multiplies leaf weights, not token losses. A trajectory without sampled tokens has sum 0, weight 1.
    The product, not its geometric mean: exact, but longer trajectories reach the cap more often.

    Args:
        sum_difference: Sum of d along each leaf's path.
        cap: Largest weight, > 0.

    Example: sums [0, ln 3, -1] at cap 2: [1, 2, 0.3679].
    """
    return sum_difference.detach().clamp(max=math.log(cap)).exp()
