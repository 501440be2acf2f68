"""Estimates of the divergence from the reference, one sampled token at a time."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

KlEstimator = Literal["k1", "k2", "k3"]

_MAX_DIFFERENCE = 20.0


def kl_estimate(
    logprobs: Float[Tensor, " tokens"], reference_logprobs: Float[Tensor, " tokens"], estimator: KlEstimator
) -> Float[Tensor, " tokens"]:
    """Estimate of KL(policy || reference) per sampled token, nats, with gradient to `logprobs`.

    With d = ln pi - ln pi_ref of the sampled token (Schulman 2020, "Approximating KL divergence"):
    `k1`: d. Unbiased, of either sign. Its gradient is the score, whose mean is 0: it belongs in the reward, where its *value*
    acts (REINFORCE++, RLOO: see `costs_to_go`), never in the loss.
    `k2`: d^2 / 2. Biased value, gradient d * grad ln pi: on samples of the policy, in the mean exactly the gradient of
    KL(policy || reference).
    `k3`: exp(-d) - 1 + d, >= 0. Unbiased value, gradient (1 - exp(-d)) * grad ln pi: in the mean the gradient of
    KL(reference || policy), the other direction (GRPO; verl's `low_var_kl`, which also clamps the value to +-10).
    k3 clamps -d at 20, without gradient beyond, so that exp never overflows.

    Args:
        logprobs: Log-probs of the current policy.
        reference_logprobs: Log-probs of the frozen reference; they get no gradient.
        estimator: The estimator.

    Example: pi = 0.4, pi_ref = 0.2: d = 0.6931; k1 0.6931, k2 0.2402, k3 0.5 - 1 + 0.6931 = 0.1931.
    """
    difference = logprobs - reference_logprobs.detach()
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    clamped = difference.clamp(min=-_MAX_DIFFERENCE)
    return torch.expm1(-clamped) + clamped
