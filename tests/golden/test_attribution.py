"""Soft, hard and mixed attribution, worked by hand; equal in loss and gradient inside the clip band."""

import pytest
import torch
from torch import Tensor

from arpo.algorithms.attribution import Attribution, attribute
from arpo.algorithms.losses import ppo_clip_loss

F64 = torch.float64
# node 0 is passed by leaves 0 and 1, node 1 by leaf 0 alone, node 2 by leaf 2 alone, node 3 by all
BELOW = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.bool)
WEIGHTS = torch.tensor([1.0, 3.0, 2.0], dtype=F64)
OWN = torch.tensor([1.0, -1.0, 0.5], dtype=F64)[:, None].expand(-1, 4)


def attributed(mode: Attribution, mix: float = 0.5) -> list[list[float]]:
    return attribute(OWN, WEIGHTS, BELOW, mode, mix).tolist()


def test_soft_is_each_leaf_s_own() -> None:
    assert attributed("soft") == [[1, 1, 0, 1], [-1, 0, 0, -1], [0, 0, 0.5, 0.5]]


def test_hard_is_the_weighted_mean_of_the_sharers() -> None:
    # node 0: (1 * 1 + 3 * -1) / 4 = -1/2; node 3: (1 - 3 + 2 * 0.5) / 6 = -1/6
    rows = attributed("hard")
    assert rows[0] == pytest.approx([-0.5, 1, 0, -1 / 6], abs=1e-15)
    assert rows[1] == pytest.approx([-0.5, 0, 0, -1 / 6], abs=1e-15)
    assert rows[2] == pytest.approx([0, 0, 0.5, -1 / 6], abs=1e-15)


def test_mixed_lies_between() -> None:
    # node 0, mix 1/4: 1/4 * -1/2 + 3/4 * 1 = 5/8 and 1/4 * -1/2 - 3/4 = -7/8
    rows = attributed("mixed", 0.25)
    assert [row[0] for row in rows] == pytest.approx([5 / 8, -7 / 8, 0])
    assert attributed("mixed", 0.0) == attributed("soft")
    assert attributed("mixed", 1.0) == attributed("hard")


def test_advantages_may_differ_from_node_to_node() -> None:
    own = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=F64)
    below = torch.tensor([[True, True], [True, False]])
    # node 0: (1 + 3) / 2; node 1: leaf 0 alone, what leaf 1 would say is not asked
    assert attribute(own, torch.ones(2, dtype=F64), below, "hard").tolist() == [[2.0, 2.0], [2.0, 0.0]]


def test_a_node_that_nobody_passes_is_0_in_all_modes() -> None:
    nobody = torch.zeros(3, 4, dtype=torch.bool)
    for mode in ("soft", "hard", "mixed"):
        assert not attribute(OWN, WEIGHTS, nobody, mode).any()


def loss_and_gradient(mode: Attribution, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The clipped loss of one token per node."""
    given = log_ratio.clone().requires_grad_()
    credit = WEIGHTS[:, None] * attribute(OWN, WEIGHTS, BELOW, mode)
    loss = ppo_clip_loss(given, credit.clamp(min=0).sum(0), credit.clamp(max=0).sum(0)).loss
    loss.sum().backward()
    assert given.grad is not None
    return loss.detach(), given.grad


@pytest.mark.parametrize("mode", ["hard", "mixed"])
def test_inside_the_band_all_modes_are_one(mode: Attribution) -> None:
    log_ratio = torch.tensor([0.1, -0.15, 0.05, 0.15], dtype=F64)
    for ours, soft in zip(loss_and_gradient(mode, log_ratio), loss_and_gradient("soft", log_ratio), strict=True):
        torch.testing.assert_close(ours, soft, rtol=0, atol=1e-14)


def test_outside_the_band_they_differ() -> None:
    # rho = 1.5 on node 0: soft S+ = 1 held at 1.2, S- = -3 free: -(1.2 - 4.5) = 3.3, slope 4.5; hard S- = 4 * -1/2 = -2: 3
    log_ratio = torch.tensor([1.5, 1.0, 1.0, 1.0], dtype=F64).log()
    soft, hard = loss_and_gradient("soft", log_ratio), loss_and_gradient("hard", log_ratio)
    assert (soft[0][0].item(), soft[1][0].item()) == pytest.approx((3.3, 4.5))
    assert (hard[0][0].item(), hard[1][0].item()) == pytest.approx((3.0, 3.0))
