"""How trajectories weigh in a batch: weights per trajectory and one global denominator.

The loss of a batch is (sum over leaves i and their tokens t of w_i * loss_it) / denominator. As both are fixed for the whole
batch before it is cut into micro-batches, the cut never changes a gradient.
"""

from collections.abc import Sequence
from typing import Literal

Aggregation = Literal["token_mean", "sequence_mean"]


def leaf_weights(num_tokens: Sequence[int], aggregation: Aggregation) -> tuple[list[float], float]:
    """Weight of each trajectory's tokens and the denominator of the batch.

    `token_mean`: every token of every trajectory counts alike (DAPO, arXiv:2503.14476; released ARPO code, per micro-batch).
    `sequence_mean`: every trajectory counts alike, its tokens sharing its weight (GRPO, arXiv:2402.03300).

    Args:
        num_tokens: Sampled tokens per trajectory, a token shared by d trajectories counted in each; at least 1.
        aggregation: Which mean.

    Example: lengths [2, 6]: `token_mean` gives ([1, 1], 8), `sequence_mean` gives ([1/2, 1/6], 2).
    """
    if aggregation == "token_mean":
        return [1.0] * len(num_tokens), float(sum(num_tokens))
    return [1.0 / n for n in num_tokens], float(len(num_tokens))
