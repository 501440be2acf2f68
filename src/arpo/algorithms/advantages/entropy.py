"""AEPO's entropy-aware factor on the advantage."""

from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.advantages.group import group_normalized_advantages


def entropy_scale(entropies: Float[Tensor, " tokens"], a: float, *, epsilon: float = 1e-6) -> Float[Tensor, " tokens"]:
    """Factor on each token's advantage: larger where the policy was less sure than average.

    Formula: 1 + a z(H_t), z(H_t) = (H_t - mean H) / (std H + epsilon). Source: AEPO, arXiv:2510.14545, entropy-aware advantage
    A~_t = A_acc (1 + a A_dH(t)).
    Choices: mean and std over *all given tokens*, the unique sampled tokens of the global batch: a token shared by d leaves
    counts once, and cuts into micro-batches change no factor (the released code uses each micro-batch, repeats included); std
    with n - 1; detached. Tokens of equal entropy, a single token or a = 0 give exactly 1. The factor is negative where
    z < -1 / a and then flips the advantage's sign, as in the paper.

    Args:
        entropies: Entropies of the distributions the tokens were drawn from, nats.
        a: Strength; 0.2 in the released code.
        epsilon: Added to the standard deviation.

    Example: entropies [1, 2, 3] have mean 2 and std 1; a = 0.2 gives [0.8, 1.0, 1.2].
    """
    return 1 + a * group_normalized_advantages(entropies.detach(), epsilon=epsilon)
