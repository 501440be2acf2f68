"""Weights of the trajectories in a batch, and one global denominator.

The loss of a batch is (sum over leaves i and their tokens t of w_i * loss_it) / denominator. Both are fixed for the whole batch
before it is cut into micro-batches, so the cut never changes a gradient.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

Aggregation = Literal["token_mean", "sequence_mean", "constant"]


def leaf_weights(
    num_tokens: Sequence[float],
    aggregation: Aggregation,
    shares: Sequence[float] | None = None,
    *,
    max_tokens: int | None = None,
) -> tuple[list[float], float]:
    """Weight of each trajectory's tokens, and the trajectories' part of the denominator of their batch.

    With l_i tokens and share v_i of trajectory i (1 without shares):
    `token_mean`: w_i = v_i, denominator sum v_i l_i: every token has the same weight (DAPO, arXiv:2503.14476; the
    released ARPO code per micro-batch).
    `sequence_mean`: w_i = v_i / l_i, denominator sum v_i: every trajectory has the same weight (GRPO, arXiv:2402.03300).
    `constant`: w_i = v_i, denominator max_tokens * sum v_i: no length changes a token's weight (Dr. GRPO, arXiv:2503.20783;
    TRL's `dr_grpo`).
    A trajectory without a sampled token has no loss; it still counts in the denominators of `sequence_mean` and `constant`.
    The denominator of a batch is `total_denominator` of those of its groups.

    Args:
        num_tokens: Sampled tokens per trajectory, a token shared by d trajectories counted in each, or as 1/d in each
            (attribution `once`).
        aggregation: Which mean.
        shares: v_i, positive: 1 for `uniform` leaf weighting; for `inverse_branching` each fork divides its parent's share, so
            that they add up to the number of initial trajectories. None: all 1.
        max_tokens: For `constant`: most tokens a trajectory may sample. The other aggregations ignore it.

    Raises:
        ValueError: `constant` without max_tokens.

    Example: lengths [2, 6]: `token_mean` gives ([1, 1], 8), `sequence_mean` ([1/2, 1/6], 2), `constant` with 10 ([1, 1], 20).
    With shares [1/2, 1]: ([1/2, 1], 7), ([1/4, 1/6], 3/2), ([1/2, 1], 15).
    """
    values = [1.0] * len(num_tokens) if shares is None else list(shares)
    if aggregation == "sequence_mean":
        return [v / (n or 1) for v, n in zip(values, num_tokens, strict=True)], sum(values)
    if aggregation == "token_mean":
        return values, sum(v * n for v, n in zip(values, num_tokens, strict=True))
    if max_tokens is None:
        raise ValueError("leaf_weights: aggregation='constant' divides by max_tokens, which is None; pass the length limit")
    return values, max_tokens * sum(values)


def total_denominator(parts: Iterable[float]) -> float:
    """The sum of the groups' denominators; 1 where no token was sampled, so that the loss is 0.

    Example: 8 and 15 give 23; 0 and 0 give 1.
    """
    return sum(parts) or 1.0
