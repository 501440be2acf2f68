"""Costs of single tokens in the advantage: the KL of REINFORCE++."""

from jaxtyping import Float
from torch import Tensor


def costs_to_go(costs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """The costs still to come at each sampled token of a trajectory, its own included: sum_(s >= t) c_s.

    Formula: A_t = r - sum_(s >= t) beta KL_s. Source: REINFORCE++, arXiv:2501.03262, eq. 8. What came before a token does not
    depend on it: taking it off too, as the sum over the whole trajectory does (RLOO, arXiv:2402.14740), adds noise that grows
    with the length and no bias.

    Example: costs 0.5, 0.2, 0.1 give 0.8, 0.3, 0.1: a reward of 1 leaves advantages 0.2, 0.7, 0.9 (the sum: 0.2 on all).
    """
    return costs.flip(0).cumsum(0).flip(0)
