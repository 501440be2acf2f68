"""Policy losses, one per file."""

from arpo.algorithms.losses.ppo_clip import PolicyLoss, ppo_clip_loss

__all__ = ["PolicyLoss", "ppo_clip_loss"]
