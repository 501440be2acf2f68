"""Significance tests of the difference between two runs on the same questions."""

from collections.abc import Sequence

import numpy as np

from arpo.evaluation.bootstrap import NUM_RESAMPLES, Floats, chunk_sizes

_ROUNDING = 1e-9


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test: of questions that only one of two runs has right.

    Formula: 2 · P(X <= min) for X ~ Binomial(only_a + only_b, 1/2), at most 1. Questions both have right or wrong say nothing.
    The form is the exact one, not chi-square: it holds for few questions too. Source: McNemar (1947).

    Example: 1 against 5: 2 · (1 + 6) / 2^6 = 0.21875.
    """
    n, ways, total = only_a + only_b, 1, 0
    for i in range(min(only_a, only_b) + 1):
        total += ways
        ways = ways * (n - i) // (i + 1)  # of choosing i + 1 of n
    return min(1.0, 2 * total / 2**n)


def swap_test(a: tuple[Floats, Floats], b: tuple[Floats, Floats], *, seed: int = 0) -> float:
    """Two-sided p of the permutation test that swaps the two runs on each question at random.

    Each run is (numerators [Q], denominators [Q]); the statistic is the difference of the ratios of sums. For means (all
    denominators 1) this is the sign-flip test of the differences. p = (1 + swaps at least as far from 0) / (1 + 10,000), which
    is never 0; differences of rounding count as equal.
    """
    (num_a, den_a), (num_b, den_b) = a, b
    observed = abs(num_a.sum() / den_a.sum() - num_b.sum() / den_b.sum())
    rng, size, far = np.random.default_rng(seed), len(num_a), 0
    for num_rows in chunk_sizes(size):
        swaps = rng.integers(2, size=(num_rows, size)).astype(np.float64)
        nums, dens = num_a.sum() + swaps @ (num_b - num_a), den_a.sum() + swaps @ (den_b - den_a)
        with np.errstate(divide="ignore", invalid="ignore"):
            differences = np.abs(nums / dens - (num_a.sum() + num_b.sum() - nums) / (den_a.sum() + den_b.sum() - dens))
        far += int((~(differences < observed - _ROUNDING)).sum())  # a swap that divides by 0 counts as far
    return (1 + far) / (1 + NUM_RESAMPLES)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number, in their order.

    Formula: the i-th smallest of m becomes max over j <= i of (m - j + 1) · p_j, at most 1. Bounds the chance of one false
    finding among all, whatever their dependence. Source: Holm (1979).

    Example: 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, largest)
    return corrected
