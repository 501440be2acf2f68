"""Weights and the denominator, worked by hand; cutting a batch changes no token's share."""

import pytest

from arpo.algorithms.aggregation import Aggregation, leaf_weights


def test_token_mean_counts_tokens_alike() -> None:
    assert leaf_weights([2, 6], "token_mean") == ([1.0, 1.0], 8.0)


def test_sequence_mean_counts_trajectories_alike() -> None:
    assert leaf_weights([2, 6], "sequence_mean") == ([1 / 2, 1 / 6], 2.0)


def test_the_share_of_each_token_is_the_mean_s() -> None:
    # losses 3, 5 on a trajectory of two tokens and 1 on one of one: tokens (3 + 5 + 1) / 3 = 3, sequences (4 + 1) / 2 = 2.5
    losses = [[3.0, 5.0], [1.0]]
    for aggregation, expected in (("token_mean", 3.0), ("sequence_mean", 2.5)):
        weights, denominator = leaf_weights([2, 1], aggregation)
        assert sum(w * sum(ls) for w, ls in zip(weights, losses, strict=True)) / denominator == pytest.approx(expected)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_all_shares_add_up_to_one(aggregation: Aggregation) -> None:
    lengths = [1, 7, 3, 3, 12]
    weights, denominator = leaf_weights(lengths, aggregation)
    assert sum(w * n for w, n in zip(weights, lengths, strict=True)) / denominator == pytest.approx(1.0)
