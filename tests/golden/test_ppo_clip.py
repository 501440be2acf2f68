"""PPO's clipped surrogate on shared tokens: values and gradients worked by hand, and its identity with a sum over sharers."""

import math

import pytest
import torch
from torch import Tensor

from arpo.algorithms.losses.ppo_clip import mismatch_kl, ppo_clip_loss

F64 = torch.float64


def value_and_slope(ratio: float, positive: float, negative: float, **bounds: float) -> tuple[float, float]:
    """The loss of one token and its derivative by the log-ratio; d rho / d log rho = rho."""
    log_ratio = torch.tensor([math.log(ratio)], dtype=F64, requires_grad=True)
    loss = ppo_clip_loss(log_ratio, torch.tensor([positive], dtype=F64), torch.tensor([negative], dtype=F64), **bounds).loss
    loss.sum().backward()
    assert log_ratio.grad is not None
    return loss.item(), log_ratio.grad.item()


@pytest.mark.parametrize(
    ("ratio", "positive", "negative", "loss", "slope"),
    [
        # inside the bounds nothing is clipped: loss -(rho S+ + rho S-), slope the same
        (1.0, 2.0, 0.0, -2.0, -2.0),
        (1.1, 2.0, -1.0, -1.1, -1.1),
        (0.9, 0.0, -1.0, 0.9, 0.9),
        # above: S+ is held at 1.2 without gradient, S- pulls the ratio down with all its weight
        (1.5, 2.0, 0.0, -2.4, 0.0),
        (1.5, 2.0, -1.0, -(1.2 * 2 - 1.5), 1.5),
        (1.5, 0.0, -1.0, 1.5, 1.5),
        # below: S- is held at 0.8 without gradient, S+ pulls the ratio up
        (0.5, 0.0, -1.0, 0.8, 0.0),
        (0.5, 2.0, -1.0, -(0.5 * 2 - 0.8), -1.0),
        (0.5, 2.0, 0.0, -1.0, -1.0),
        # no credit, no gradient
        (1.5, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_hand_worked(ratio: float, positive: float, negative: float, loss: float, slope: float) -> None:
    assert value_and_slope(ratio, positive, negative) == pytest.approx((loss, slope), abs=1e-12)


def test_decoupled_bounds() -> None:
    # between 1.2 and 1.28 only the wider bound lets the gradient through; 0.75 is below 1 - 0.2 but above 1 - 0.3
    assert value_and_slope(1.25, 1.0, 0.0, clip_high=0.28) == pytest.approx((-1.25, -1.25))
    assert value_and_slope(1.3, 1.0, 0.0, clip_high=0.28) == pytest.approx((-1.28, 0.0))
    assert value_and_slope(0.75, 0.0, -1.0, clip_low=0.3) == pytest.approx((0.75, 0.75))
    assert value_and_slope(0.75, 0.0, -1.0, clip_low=0.2) == pytest.approx((0.8, 0.0))


def ppo_sum_over_sharers(log_ratio: Tensor, weights: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """arXiv:1707.06347, equation 7, for each sharer on its own: weights and advantages are [sharers, tokens]."""
    ratio = log_ratio.exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    return -(weights * surrogate).sum(dim=0)


def test_equals_the_sum_over_sharers_in_value_and_gradient() -> None:
    generator = torch.Generator().manual_seed(3)
    tokens, sharers, low, high = 200, 5, 0.2, 0.28
    weights = torch.rand(sharers, tokens, generator=generator, dtype=F64)
    advantages = torch.randn(sharers, tokens, generator=generator, dtype=F64)
    start = 0.4 * torch.randn(tokens, generator=generator, dtype=F64)
    credit = weights * advantages
    once, many = start.clone().requires_grad_(), start.clone().requires_grad_()
    shared = ppo_clip_loss(once, credit.clamp(min=0).sum(0), credit.clamp(max=0).sum(0), clip_low=low, clip_high=high)
    alone = ppo_sum_over_sharers(many, weights, advantages, low, high)
    shared.loss.sum().backward()
    alone.sum().backward()
    torch.testing.assert_close(shared.loss, alone, rtol=0, atol=1e-14)
    torch.testing.assert_close(once.grad, many.grad, rtol=0, atol=1e-14)
    assert shared.is_clipped_high.any()
    assert shared.is_clipped_low.any()


def test_a_mean_advantage_is_not_the_same() -> None:
    """What the identity is for: with +1 and -1 on one token, the mean is 0 but clipping leaves one side."""
    loss, slope = value_and_slope(1.5, 1.0, -1.0)
    assert (loss, slope) == pytest.approx((0.3, 1.5))
    assert value_and_slope(1.5, 0.0, 0.0) == (0.0, 0.0)


def test_clipped_shares_are_counted_only_where_they_matter() -> None:
    log_ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0], dtype=F64).log()
    positive = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0], dtype=F64)
    negative = torch.tensor([0.0, -1.0, 0.0, -1.0, -1.0], dtype=F64)
    result = ppo_clip_loss(log_ratio, positive, negative)
    assert result.is_clipped_high.tolist() == [True, False, False, False, False]
    assert result.is_clipped_low.tolist() == [False, False, False, True, False]


def test_at_ratio_one_the_gradient_is_the_policy_gradient() -> None:
    assert value_and_slope(1.0, 3.0, -1.0) == pytest.approx((-2.0, -2.0))


def test_a_huge_ratio_neither_overflows_nor_spoils_other_tokens() -> None:
    """exp(200) is infinite in float32: clipped sides stay exact, the unclipped one is held at e^20; gradients are finite."""
    log_ratio = torch.tensor([200.0, -200.0, 200.0, 0.0], requires_grad=True)
    loss = ppo_clip_loss(log_ratio, torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([0.0, -1.0, -1.0, 0.0])).loss
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([-1.2, 0.8, math.exp(20), -1.0])
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == [0.0, 0.0, 0.0, -1.0]


def test_at_a_bound_the_gradient_is_the_unclipped_side_s() -> None:
    log_ratio = torch.tensor([math.log1p(0.2), math.log1p(-0.2)], dtype=F64, requires_grad=True)
    ppo_clip_loss(log_ratio, torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([0.0, -1.0], dtype=F64)).loss.sum().backward()
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == pytest.approx([-1.2, 0.8])


def test_mismatch_kl() -> None:
    # p_trainer / p_engine = 2: 2 - 1 - ln 2 = 0.306853; = 1/2: 1/2 - 1 + ln 2 = 0.193147; equal: 0
    trainer = torch.tensor([0.4, 0.2, 0.3], dtype=F64).log().requires_grad_()
    engine = torch.tensor([0.2, 0.4, 0.3], dtype=F64).log()
    estimate = mismatch_kl(trainer, engine)
    assert estimate.tolist() == pytest.approx([1 - math.log(2), math.log(2) - 0.5, 0.0], abs=1e-12)
    assert not estimate.requires_grad


def test_mismatch_kl_estimates_the_divergence() -> None:
    """Its mean under the engine's distribution is KL(engine || trainer) exactly."""
    engine, trainer = torch.tensor([0.5, 0.3, 0.2], dtype=F64), torch.tensor([0.2, 0.2, 0.6], dtype=F64)
    divergence = (engine * (engine / trainer).log()).sum()
    assert (engine * mismatch_kl(trainer.log(), engine.log())).sum().item() == pytest.approx(divergence.item(), rel=1e-12)
