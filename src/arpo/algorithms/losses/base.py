"""The result of every policy loss."""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class PolicyLoss(NamedTuple):
    """Loss per row and the rows where a bound on the ratio acted; a row is a token, or a leaf (GSPO)."""

    loss: Float[Tensor, " rows"]
    is_clipped_high: Bool[Tensor, " rows"]
    """The ratio is above a bound that holds for the advantage of some sharer."""
    is_clipped_low: Bool[Tensor, " rows"]
    """The ratio is below a bound that holds for the advantage of some sharer."""
