"""Advantages of the trajectories of one group."""

from jaxtyping import Float
from torch import Tensor


def group_normalized_advantages(
    rewards: Float[Tensor, " group"], *, normalize_std: bool = True, epsilon: float = 1e-6
) -> Float[Tensor, " group"]:
    """Rewards centred on their group's mean and, by default, divided by its standard deviation.

    Formula: A_i = (r_i - mean r) / (std r + epsilon). Source: GRPO, arXiv:2402.03300, section 4.1; used by ARPO,
    arXiv:2507.19849, section 3. `normalize_std=False` is Dr.GRPO, arXiv:2503.20783.
    Libraries differ: std here has n - 1 in the denominator (TRL and verl too; torchtitan takes the population's). A group of
    one, or of equal rewards, gets advantage 0 (verl gives a group of one its raw reward).

    Example: rewards [1, 0, 0, 1] have mean 0.5 and std 0.57735, so [0.866, -0.866, -0.866, 0.866].
    """
    centred = rewards - rewards.mean()
    if len(rewards) < 2 or bool((rewards == rewards[0]).all()):
        return centred.new_zeros(centred.shape)
    return centred / (rewards.std(correction=1) + epsilon) if normalize_std else centred
