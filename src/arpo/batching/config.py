"""How trees become batches."""

from typing import Literal

from pydantic import Field

from arpo.config import Config

Packing = Literal["tree", "flat"]


class BatchingConfig(Config):
    """Contents of one forward and backward pass of the trainer."""

    packing: Packing = "tree"
    """`tree`: the model computes a shared token once, with the gradient of training each trajectory. `flat`: every trajectory
    separately, one after the other without padding: the reference, and for models whose attention cannot take a tree's mask."""
    max_tokens: int = Field(default=8192, ge=1)
    """Packed tokens per pass, prompts and observations included. Larger trees are cut at forks, and each part
    computes the shared tokens. At least agent.limits.max_trajectory_tokens; in SFT, the longest conversation."""
