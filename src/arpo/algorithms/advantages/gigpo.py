"""GiGPO: compares steps taken from the same state."""

from typing import cast

from jaxtyping import Float, Int
from torch import Tensor

from arpo.algorithms.advantages.group import group_normalized_advantages


def step_returns(
    rewards: Float[Tensor, " steps"], steps_to_end: Int[Tensor, " steps"], *, discount: float
) -> Float[Tensor, " steps"]:
    """Return of each step: the trajectory's reward, discounted by the number of steps to its end.

    Formula: R_t = sum_(k >= t) discount^(k - t) r_k; with the reward at the last step alone, R_t = discount^(T - t) r_T.
    Source: GiGPO, arXiv:2505.10978, eq. 5.

    Args:
        rewards: Per step, the reward of its trajectory.
        steps_to_end: Per step, the number of later steps of the trajectory; 0 for the last.
        discount: In (0, 1]; 0.95 in the paper.

    Example: a trajectory of three steps with reward 1 at discount 0.5: [0.25, 0.5, 1].
    """
    return rewards * discount ** steps_to_end.to(rewards.dtype)


def step_group_advantages(
    returns: Float[Tensor, " steps"],
    groups: Int[Tensor, " steps"],
    weights: Float[Tensor, " steps"] | None = None,
    *,
    normalize_std: bool = True,
    epsilon: float = 1e-6,
) -> Float[Tensor, " steps"]:
    """Each step's return, centred on (and by default scaled by) the returns of the steps of its group.

    Formula: A^S_s = (R_s - mean R) / (std R + epsilon) over the steps with the same group number. Source: GiGPO,
    arXiv:2505.10978, eq. 6-7; the whole advantage is A^E + step_weight * A^S (eq. 8). `normalize_std=False` is the paper's
    F_norm = 1. A step alone in its group gets 0, as in the authors' code.

    Args:
        returns: Return of each step, from `step_returns`.
        groups: Per step, the number of its state: steps of one task with the same latest observation share it.
        weights: Weights of mean and std, positive; None: all equal.
        normalize_std: Divide by the group's standard deviation (n - 1).
        epsilon: Added to the standard deviation.

    Example: returns [1, 0, 0.5] in groups [7, 7, 9]: [0.70711, -0.70711, 0].
    """
    advantages = returns.new_zeros(returns.shape)
    for group in set(cast("list[int]", groups.tolist())):  # pyright: ignore[reportUnknownMemberType]
        members = groups == group
        advantages[members] = group_normalized_advantages(
            returns[members], None if weights is None else weights[members], normalize_std=normalize_std, epsilon=epsilon
        )
    return advantages
