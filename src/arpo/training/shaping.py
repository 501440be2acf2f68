"""Reward shaping before advantages: the length penalty and the KL of whole trajectories."""

from collections.abc import Sequence

import torch
from torch import Tensor

from arpo.algorithms.overlong import overlong_penalty
from arpo.training.algorithm_config import KlConfig, OverlongConfig
from arpo.training.credit import leaf_rewards
from arpo.tree import RolloutTree


def shape_rewards(
    trees: Sequence[RolloutTree],
    overlong: OverlongConfig,
    kl: KlConfig,
    *,
    max_tokens: int,
    kl_sums: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Per tree, the rewards [L] of its leaves minus penalties; `leaf.reward` stays as it is.

    Args:
        trees: Scored trees.
        overlong: The length penalty.
        kl: Its coefficient applies where the KL of a whole trajectory is in its reward (`loss.kl.level = "sequence"`).
        max_tokens: Sampled tokens with the full length penalty, where `overlong.max_tokens` is None.
        kl_sums: Per tree, sum over each leaf's sampled tokens of ln p_policy - ln p_reference [L]; needed there, ignored else.

    Raises:
        ValueError: the KL of whole trajectories is in the reward and `kl_sums` is None.

    Example: reward 1, 95 sampled tokens of 100, buffer 0.1, penalty 1, KL sum 2 at coefficient 0.05: 1 - 0.5 - 0.1 = 0.4.
    """
    takes_kl = kl.is_in_reward and kl.level == "sequence"
    if takes_kl and kl_sums is None:
        raise ValueError(
            "shape_rewards: loss.kl.estimator = 'k1' puts the KL in the reward, but kl_sums is None; pass the sums"
        )
    shaped = [leaf_rewards(tree) for tree in trees]
    if overlong.penalty:
        limit = overlong.max_tokens or max_tokens
        buffer = max(1, round(limit * overlong.buffer))
        for index, tree in enumerate(trees):
            lengths = torch.tensor([trajectory.num_sampled_tokens for trajectory in tree.trajectories()])
            shaped[index] = shaped[index] + overlong_penalty(lengths, max_tokens=limit, buffer=buffer, penalty=overlong.penalty)
    if takes_kl and kl_sums is not None:
        shaped = [rewards - kl.coefficient * sums.double() for rewards, sums in zip(shaped, kl_sums, strict=True)]
    return shaped
