"""pass@k against hand-worked numbers and against counting every subset."""

import math
from itertools import combinations

import pytest

from arpo.evaluation.pass_at_k import pass_at_k


def test_hand_worked() -> None:
    # 1 - C(3, 2) / C(4, 2) = 1 - 3/6; the biased 1 - (1 - 1/4)^2 would be 0.4375
    assert pass_at_k(4, 1, 2) == 0.5
    # 1 - C(7, 3) / C(10, 3) = 1 - 35/120
    assert pass_at_k(10, 3, 3) == pytest.approx(85 / 120)


@pytest.mark.parametrize("n", [1, 4, 6])
def test_is_the_share_of_subsets_with_a_right_answer(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations(range(n), k))
            share = sum(any(i < c for i in subset) for subset in subsets) / len(subsets)
            assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_edges() -> None:
    assert pass_at_k(5, 0, 5) == 0.0
    assert pass_at_k(5, 5, 1) == 1.0
    assert pass_at_k(5, 1, 5) == 1.0
    assert math.isnan(pass_at_k(3, 1, 4))
    assert pass_at_k(10_000, 1, 1) == pytest.approx(1e-4)
