"""Tree-GRPO: compares a leaf with its own tree and with all trees of the prompt."""

from jaxtyping import Float, Int
from torch import Tensor

from arpo.algorithms.advantages.gigpo import step_group_advantages
from arpo.algorithms.advantages.group import group_normalized_advantages


def tree_grpo_advantages(
    rewards: Float[Tensor, " leaves"],
    trees: Int[Tensor, " leaves"],
    weights: Float[Tensor, " leaves"] | None = None,
    *,
    normalize_std: bool = True,
    epsilon: float = 1e-6,
) -> Float[Tensor, " leaves"]:
    """The sum of the advantage within a leaf's own tree and the advantage among all leaves of the prompt.

    Formula: A_i = A_intra(i) + A_inter(i), each (r_i - mean) / (std + epsilon): over the leaves of i's tree, and over all.
    Source: Tree-GRPO, arXiv:2509.21240. Its "tree" is one initial trajectory with its branches, those at the prompt included.
    The released code normalises twice in a row instead of adding, which leaves the intra-tree part alone, except for a tree of
    one leaf, which keeps the inter-tree value; here such a leaf has A_intra = 0, so both agree.

    Args:
        rewards: Rewards of one group.
        trees: Per leaf, the number of its initial trajectory.
        weights: Weights of means and stds, positive; None: all equal.
        normalize_std: Divide by the standard deviations (n - 1).
        epsilon: Added to each standard deviation.

    Example: rewards [1, 0, 1, 1], trees [0, 0, 1, 1], without std: intra [0.5, -0.5, 0, 0] plus inter [0.25, -0.75, 0.25, 0.25]
    = [0.75, -1.25, 0.25, 0.25].
    """
    inter = group_normalized_advantages(rewards, weights, normalize_std=normalize_std, epsilon=epsilon)
    intra = step_group_advantages(rewards, trees, weights, normalize_std=normalize_std, epsilon=epsilon)
    return intra + inter
