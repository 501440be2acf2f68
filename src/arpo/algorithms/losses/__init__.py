"""Policy losses, one per file.

Token-level losses compute each token of a pack once, however many leaves share it, from the leaves' weighted advantages summed
by sign: S+ = sum_i w_i max(A_i, 0), S- = sum_i w_i min(A_i, 0). Each equals the sum of w_i * loss(A_i) over the sharers, in
value and gradient. The caller sums the result and divides by the batch's denominator.
"""

from arpo.algorithms.losses.base import PolicyLoss
from arpo.algorithms.losses.cispo import cispo_loss
from arpo.algorithms.losses.gspo import gspo_loss, sequence_log_ratio
from arpo.algorithms.losses.ppo_clip import ClipMode, ppo_clip_loss
from arpo.algorithms.losses.reinforce import reinforce_loss

__all__ = [
    "ClipMode",
    "PolicyLoss",
    "cispo_loss",
    "gspo_loss",
    "ppo_clip_loss",
    "reinforce_loss",
    "sequence_log_ratio",
]
