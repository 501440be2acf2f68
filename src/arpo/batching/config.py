"""How trees become batches."""

from typing import Literal

from pydantic import Field

from arpo.config import Config

Packing = Literal["tree", "flat"]


class BatchingConfig(Config):
    """What one forward and backward pass of the trainer holds."""

    packing: Packing = "tree"
    """`tree`: a token that trajectories share passes the model once; the gradient is that of training each trajectory. `flat`:
    every trajectory on its own, one behind the other without padding: the reference, and for models whose attention cannot
    take a tree's mask."""
    max_tokens: int = Field(default=8192, ge=1)
    """Packed tokens per pass, prompts and observations included. Larger trees are cut at forks, and what the parts share is
    computed in each. At least agent.limits.max_trajectory_tokens."""
