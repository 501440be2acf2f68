"""DAPO's penalty for trajectories near their length limit."""

from jaxtyping import Float, Int
from torch import Tensor


def overlong_penalty(
    num_tokens: Int[Tensor, " leaves"], *, max_tokens: int, buffer: int, penalty: float = 1.0
) -> Float[Tensor, " leaves"]:
    """The penalty added to each reward: 0 up to `max_tokens - buffer`, then falling linearly to `-penalty` at `max_tokens`.

    Formula: -penalty * clip((l - (max_tokens - buffer)) / buffer, 0, 1). Source: soft overlong punishment, DAPO,
    arXiv:2503.14476, eq. 13; verl's factor `penalty` (the paper: 1). Beyond `max_tokens` it stays at -penalty.

    Args:
        num_tokens: Length of each trajectory, counted as `max_tokens` is.
        max_tokens: Length with the full penalty.
        buffer: Tokens over which the penalty rises; 1 to max_tokens.
        penalty: Full penalty in units of the reward, >= 0.

    Example: max_tokens 100, buffer 20: 80 tokens cost 0, 90 cost 0.5, 100 and 130 cost 1.
    """
    over = (num_tokens - (max_tokens - buffer)).double() / buffer
    return -penalty * over.clamp(0, 1)
