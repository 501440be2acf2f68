"""TreeRL: the reward of a step is what it adds to the value of the prompt and of the step before."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arpo.algorithms.advantages.scale import group_std


def treerl_advantages(
    rewards: Float[Tensor, " leaves"],
    below: Bool[Tensor, "leaves nodes"],
    weights: Float[Tensor, " leaves"] | None = None,
    *,
    normalize_std: bool = False,
    epsilon: float = 1e-6,
) -> Float[Tensor, " nodes"]:
    """The advantage of every node: global and local advantage of its step, over the root of the number of leaves below.

    Formula: A(n) = (V(n) - V(root) + V(n) - V(parent)) / sqrt(|L(n)|), V(n) = mean reward of the leaves L(n) below n. Source:
    TreeRL, arXiv:2506.11902, process supervision from tree search; the authors' code divides the sums of rewards by the root
    first and subtracts then. Choices: a step is a stretch between forks, so that tool results cut none: nodes with the same
    leaves below share their step, and the parent is the nearest ancestor with more leaves below; a node that every leaf passes
    is the root. Trajectories share the advantage of a shared token. With `normalize_std`, not in the paper, divided by the
    standard deviation of the rewards (`group_std`). Equal rewards give exactly 0.

    Args:
        rewards: Rewards of one group.
        below: True where leaf i passes node n.
        weights: Weights of the means, positive; None: all equal.
        normalize_std: Divide by the standard deviation of the rewards.
        epsilon: Added to it.

    Example: rewards [1, 0, 0], the first two leaves share a step a, then go on as b and c; the third is d alone. V(root) = 1/3,
    V(a) = 1/2: A(a) = (1/6 + 1/6) / sqrt(2) = 0.2357, A(b) = 2/3 + 1/2 = 1.1667, A(c) = -1/3 - 1/2 = -0.8333, A(d) = -2/3.
    """
    if rewards.numel() == 0:
        return rewards.new_zeros(below.shape[1])
    passing = below.to(rewards.dtype) if weights is None else weights[:, None] * below
    values = (passing * (rewards - rewards[0])[:, None]).sum(dim=0) / passing.sum(dim=0)
    sizes = below.sum(dim=0)
    is_above = (below[:, :, None] | ~below[:, None, :]).all(dim=0) & (sizes[:, None] > sizes)  # [ancestor, node]
    parents = torch.where(is_above, sizes[:, None], len(rewards) + 1).argmin(dim=0)
    root = sizes.argmax()
    parents = torch.where(is_above.any(dim=0), parents, root)
    advantages = (2 * values - values[root] - values[parents]) / sizes.to(rewards.dtype).sqrt()
    if not normalize_std:
        return advantages
    std = group_std(rewards, weights)
    return torch.where(std > 0, advantages / (std + epsilon), 0.0)
