"""The advantage of each leaf on tokens that several leaves share."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Attribution = Literal["soft", "hard", "mixed"]


def attribute(
    advantages: Float[Tensor, "leaves nodes"],
    weights: Float[Tensor, " leaves"],
    below: Bool[Tensor, "leaves nodes"],
    mode: Attribution,
    mix: float = 0.5,
) -> Float[Tensor, "leaves nodes"]:
    """The advantage of each leaf on the tokens of each node of its path; 0 off its path.

    Formula, with A_in the advantage of leaf i on node n and Abar_n = sum_(i passes n) w_i A_in / sum_(i passes n) w_i: `soft`
    A_in, `hard` Abar_n, `mixed` mix * Abar_n + (1 - mix) * A_in. Source: ARPO, arXiv:2507.19849, section 3 (default: soft;
    its hard is the plain mean, which is this one for equal weights).
    As sum_i w_i A_in = (sum_i w_i) Abar_n, all three have the same loss and gradient while the ratio is inside the clip band;
    outside it they differ, as clipping depends on the sign of each leaf's advantage. Tokens of one leaf alone are the same in
    all three.

    Args:
        advantages: A_in; entries off a leaf's path are ignored. Expand leaf advantages [L] with `[:, None].expand(-1, nodes)`.
        weights: The leaves' weights in the loss, positive; with other weights the three modes differ inside the band too.
        below: True where leaf i passes node n.
        mode: Which attribution.
        mix: Share of the common part in `mixed`, in [0, 1]; the other modes ignore it.

    Example: two leaves of weight 1 and 3 with advantages 1 and -1 share a node: hard (1 - 3) / 4 = -0.5 for both; mixed with
    0.5: 0.25 and -0.75.
    """
    soft = torch.where(below, advantages, 0.0)
    if mode == "soft":
        return soft
    passing = torch.where(below, weights[:, None], 0.0)
    total = passing.sum(dim=0)
    mean = (passing * soft).sum(dim=0) / total.masked_fill(total == 0, 1.0)
    hard = torch.where(below, mean, 0.0)
    return hard if mode == "hard" else mix * hard + (1 - mix) * soft
