"""The unbiased estimate of pass@k."""

import math


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that at least one of `k` answers drawn without replacement from the samples is right.

    Formula: 1 - C(n - c, k) / C(n, k). Source: Chen et al., arXiv:2107.03374, section 2.1. The plain 1 - (1 - c/n)^k is biased.
    NaN when there are fewer samples than k.

    Example: n = 4, c = 1, k = 2: 1 - C(3, 2) / C(4, 2) = 1 - 3/6 = 0.5.
    """
    if num_samples < k:
        return math.nan
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)
