"""REINFORCE: the plain policy gradient."""

import torch
from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.losses.base import PolicyLoss


def reinforce_loss(
    logprobs: Float[Tensor, " tokens"], positive: Float[Tensor, " tokens"], negative: Float[Tensor, " tokens"]
) -> PolicyLoss:
    """Negative log-prob of each token, times the summed advantages of its sharers; nothing is clipped.

    Formula: loss = -(S+ + S-) ln pi. Source: Williams 1992. Valid for the first update on fresh samples only, as it has no
    ratio; every clipped loss has this gradient where the ratio is 1.

    Args:
        logprobs: Log-probs of the tokens, with gradient.
        positive: S+ of each token, >= 0.
        negative: S- of each token, <= 0.

    Example: ln pi = -0.5, S+ = 3, S- = -1: loss 1, gradient -2.
    """
    nowhere = torch.zeros_like(positive, dtype=torch.bool)
    return PolicyLoss(-(positive + negative) * logprobs, nowhere, nowhere)
