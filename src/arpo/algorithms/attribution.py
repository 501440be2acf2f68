"""The advantage of each leaf on tokens that several leaves share, and how often such a token counts."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Attribution = Literal["soft", "hard", "once", "mixed"]


def attribute(
    advantages: Float[Tensor, "leaves nodes"],
    weights: Float[Tensor, " leaves"],
    below: Bool[Tensor, "leaves nodes"],
    mode: Attribution,
    mix: float = 0.5,
) -> Float[Tensor, "leaves nodes"]:
    """The advantage of each leaf on the tokens of each node of its path; 0 off its path.

    Formula, with A_in the advantage of leaf i on node n and d the number of leaves that pass n:
    `soft`: A_in.
    `hard`: the plain mean sum_(i passes n) A_in / d, whatever the weights.
    `once`: as `hard`; each leaf holds only 1/d of the token, see `leaf_parts`.
    `mixed`: mix * Abar_n + (1 - mix) * A_in, with the weighted mean Abar_n = sum w_i A_in / sum w_i over the sharers.
    Source: ARPO, arXiv:2507.19849, section 3: soft is its default; it says of hard only that shared tokens have the mean, so
    that hard (a shared token still counts in each trajectory) and once (it counts once) are two readings; mixed is ours.
    Tokens of one leaf alone are the same in all modes. While the ratio is inside the clip band the loss is linear in the
    advantage: mixed is then soft, as sum w_i A_in = (sum w_i) Abar_n, and so is hard where the sharers' weights are equal (all
    aggregations but `sequence_mean`, with leaf weighting `uniform`); once differs by the factor 1/d. Outside the band all
    differ, as clipping depends on the sign of each leaf's advantage.

    Args:
        advantages: A_in; entries off a leaf's path are ignored. Expand leaf advantages [L] with `[:, None].expand(-1, nodes)`.
        weights: w_i, the leaves' weights in the loss, positive; only `mixed` uses them.
        below: True where leaf i passes node n.
        mode: Which attribution.
        mix: Share of the common part in `mixed`, in [0, 1]; the other modes ignore it.

    Example: two leaves of weight 1 and 3 with advantages 1 and -1 share a node: hard and once (1 - 1) / 2 = 0 for both; mixed
    with 0.5: the weighted mean is (1 - 3) / 4 = -0.5, so 0.25 and -0.75.
    """
    soft = torch.where(below, advantages, 0.0)
    if mode == "soft":
        return soft
    if mode == "mixed":
        return mix * _mean_of_sharers(soft, torch.where(below, weights[:, None], 0.0), below) + (1 - mix) * soft
    return _mean_of_sharers(soft, below.to(soft.dtype), below)


def leaf_parts(below: Bool[Tensor, "leaves nodes"]) -> Float[Tensor, " nodes"]:
    """The part of each node's tokens that every leaf through it holds under attribution `once`: 1/d for d sharers.

    One rule for every aggregation: a leaf holds 1/d of a token that d leaves share. Its length is l_i = sum_t 1/d_t, and a
    token's weight is sum_(i passes) w_i / d, the mean of its sharers' weights:
    `token_mean`: w_i = 1, so every token counts 1; the denominator sum l_i is the number of distinct tokens.
    `sequence_mean`: w_i = 1 / l_i, so a leaf's parts add up to 1, as without sharing; the denominator is the number of leaves.
    `constant`: w_i = 1, so every token counts 1; the denominator max_tokens * leaves has no length in it and stays.
    A node that no leaf passes has 1.

    Example: two leaves share 2 tokens; one ends there, the other goes on for 6 (lengths 2 and 8). Parts 1/2 and 1: l = 1 and 7.
    `token_mean`: all 8 tokens weigh 1, denominator 8. `sequence_mean`: the shared ones (1 + 1/7) / 2 = 4/7, the others 1/7,
    denominator 2 = 2 * 4/7 + 6 * 1/7. `constant` with 10: all weigh 1, denominator 20.
    """
    return 1 / below.sum(dim=0).clamp(min=1).double()


def _mean_of_sharers(
    advantages: Float[Tensor, "leaves nodes"], passing: Float[Tensor, "leaves nodes"], below: Bool[Tensor, "leaves nodes"]
) -> Float[Tensor, "leaves nodes"]:
    total = passing.sum(dim=0)
    mean = (passing * advantages).sum(dim=0) / total.masked_fill(total == 0, 1.0)
    return torch.where(below, mean, 0.0)
