"""Divisors of centred rewards."""

from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.advantages.baselines import group_mean_baseline


def group_std(rewards: Float[Tensor, " leaves"], weights: Float[Tensor, " leaves"] | None = None) -> Float[Tensor, ""]:
    """The (weighted) standard deviation of a group's rewards, with n - 1; exactly 0 for equal rewards, one leaf or none.

    Formula: sqrt(sum_i p_i (r_i - m)^2 / (1 - sum_i p_i^2)), p_i = v_i / sum v, m = sum p_i r_i. With equal weights this is
    sqrt(sum (r_i - m)^2 / (n - 1)): TRL, verl and the released ARPO code use n - 1 too; torchtitan uses n. The weighted form
    does not depend on the scale of the weights (reliability of a leaf, not frequency), and its square is unbiased for
    independent leaves. The caller adds epsilon to the result, outside the root.

    Args:
        rewards: Rewards of one group, or of a whole batch.
        weights: Positive, at any scale; None: all equal.

    Example: [1, 0, 0, 1]: sqrt(4 * 0.25 / 3) = 0.57735. [1, 0] with weights [3, 1]: p = [3/4, 1/4], m = 3/4,
    sqrt((3/4 * 1/16 + 1/4 * 9/16) / (1 - 10/16)) = sqrt(0.1875 / 0.375) = 0.70711.
    """
    if len(rewards) < 2:
        return rewards.new_zeros(())
    shares = rewards.new_full(rewards.shape, 1 / len(rewards)) if weights is None else weights / weights.sum()
    squares = (rewards - group_mean_baseline(rewards, weights)).square()
    return ((shares * squares).sum() / (shares * (1 - shares)).sum()).sqrt()


def normalize_batch(
    advantages: Float[Tensor, " rows"], weights: Float[Tensor, " rows"] | None = None, *, epsilon: float = 1e-6
) -> Float[Tensor, " rows"]:
    """Advantages of a whole batch, centred on its mean and divided by its standard deviation.

    Formula: (A_i - mean A) / (std A + epsilon) over all rows of the *global* batch, std as in `group_std` (n - 1). Source:
    REINFORCE++, arXiv:2501.03262; its baseline version passes rewards centred on their groups' means.
    Libraries differ: OpenRLHF and verl count a row once per token (pass the token counts as weights for that) and divide by
    sqrt(var + 1e-8).

    Args:
        advantages: Advantages of all leaves of the step.
        weights: Positive, at any scale; None: all equal.
        epsilon: Added to the standard deviation, not to the variance.

    Example: [1, 0, -1] has mean 0 and std 1: unchanged. [3, 1] has mean 2 and std 1.41421: [0.70711, -0.70711].
    """
    centred = advantages - group_mean_baseline(advantages, weights)
    return centred / (group_std(advantages, weights) + epsilon)
