"""GRPO's advantage: a group's rewards, centred and scaled."""

from jaxtyping import Float
from torch import Tensor

from arpo.algorithms.advantages.baselines import group_mean_baseline
from arpo.algorithms.advantages.scale import group_std


def group_normalized_advantages(
    rewards: Float[Tensor, " leaves"],
    weights: Float[Tensor, " leaves"] | None = None,
    *,
    normalize_std: bool = True,
    epsilon: float = 1e-6,
) -> Float[Tensor, " leaves"]:
    """Rewards centred on their group's mean and, by default, divided by its standard deviation.

    Formula: A_i = (r_i - mean r) / (std r + epsilon). Source: GRPO, arXiv:2402.03300, section 4.1; used by ARPO,
    arXiv:2507.19849, section 3. `normalize_std=False` is Dr. GRPO, arXiv:2503.20783.
    Choices: std with n - 1 and epsilon added to it (`group_std`); a group of one, or of equal rewards, gets exactly 0 (verl
    gives a group of one its raw reward); an empty group gives an empty result.

    Args:
        rewards: Rewards of one group.
        weights: Weights of mean and std, positive; None: all equal.
        normalize_std: Divide by the standard deviation.
        epsilon: Added to the standard deviation.

    Example: rewards [1, 0, 0, 1] have mean 0.5 and std 0.57735, so [0.866, -0.866, -0.866, 0.866].
    """
    centred = rewards - group_mean_baseline(rewards, weights)
    return centred / (group_std(rewards, weights) + epsilon) if normalize_std else centred
