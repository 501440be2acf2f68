"""Weights and the denominator, worked by hand; cutting a batch changes no token's share."""

import pytest
import torch

from arpo.algorithms.aggregation import Aggregation, leaf_weights, total_denominator
from arpo.algorithms.losses import ppo_clip_loss


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


def test_constant_divides_by_the_length_limit() -> None:
    # 2 trajectories times 10 tokens
    assert leaf_weights([2, 6], "constant", max_tokens=10) == ([1.0, 1.0], 20.0)


def test_constant_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        leaf_weights([2, 6], "constant")


def test_shares_weigh_trajectories_and_denominators() -> None:
    # tokens 1/2 * 2 + 1 * 6; trajectories 1/2 + 1, weights (1/2) / 2 and 1 / 6; limit 10 * 3/2
    assert leaf_weights([2, 6], "token_mean", [0.5, 1.0]) == ([0.5, 1.0], 7.0)
    assert leaf_weights([2, 6], "sequence_mean", [0.5, 1.0]) == ([0.25, 1 / 6], 1.5)
    assert leaf_weights([2, 6], "constant", [0.5, 1.0], max_tokens=10) == ([0.5, 1.0], 15.0)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("shares", [None, [0.5, 0.25, 0.25, 1.0, 1.0]])
def test_all_shares_add_up_to_one(aggregation: Aggregation, shares: list[float] | None) -> None:
    lengths = [1, 7, 3, 3, 12]
    weights, denominator = leaf_weights(lengths, aggregation, shares)
    assert sum(w * n for w, n in zip(weights, lengths, strict=True)) / denominator == pytest.approx(1.0)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_a_branch_that_doubles_a_trajectory_changes_nothing_under_halved_shares(aggregation: Aggregation) -> None:
    """A trajectory of loss 3 twice at share 1/2 is that trajectory once: the loss does not see the fork."""
    once = leaf_weights([4, 2], aggregation, [1.0, 1.0], max_tokens=8)
    twice = leaf_weights([4, 4, 2], aggregation, [0.5, 0.5, 1.0], max_tokens=8)
    assert twice[1] == pytest.approx(once[1])
    assert twice[0][0] + twice[0][1] == pytest.approx(once[0][0])


def test_an_empty_completion_has_no_loss_but_counts_as_a_trajectory() -> None:
    assert leaf_weights([0, 4], "token_mean") == ([1.0, 1.0], 4.0)
    assert leaf_weights([0, 4], "sequence_mean") == ([1.0, 0.25], 2.0)
    assert leaf_weights([0, 4], "constant", max_tokens=8) == ([1.0, 1.0], 16.0)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_a_batch_without_sampled_tokens_has_loss_0(aggregation: Aggregation) -> None:
    assert 0.0 / total_denominator([leaf_weights([0, 0], aggregation, max_tokens=8)[1]]) == 0.0


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_micro_batches_change_no_gradient(aggregation: Aggregation, size: int) -> None:
    """Eight trajectories at once, and in parts of `size`: the same loss and gradient, as the denominator is the batch's."""
    generator = torch.Generator().manual_seed(5)
    lengths = [3, 1, 7, 2, 2, 9, 4, 5]
    weights, denominator = leaf_weights(lengths, aggregation, max_tokens=16)
    start = 0.3 * torch.randn(sum(lengths), generator=generator, dtype=torch.float64)
    credit = torch.randn(8, generator=generator, dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64)
    credit = credit.repeat_interleave(torch.tensor(lengths))

    def accumulate(parts: int) -> tuple[float, torch.Tensor]:
        log_ratio = start.clone().requires_grad_()
        total = 0.0
        pieces = [t.split(lengths) for t in (log_ratio, credit)]
        for first in range(0, 8, parts):
            ratio, a = (torch.cat(p[first : first + parts]) for p in pieces)
            loss = ppo_clip_loss(ratio, a.clamp(min=0), a.clamp(max=0)).loss.sum() / denominator
            loss.backward()
            total += loss.item()
        assert log_ratio.grad is not None
        return total, log_ratio.grad

    whole, parts = accumulate(8), accumulate(size)
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)
    torch.testing.assert_close(parts[1], whole[1], rtol=0, atol=1e-15)
