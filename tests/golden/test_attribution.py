"""Soft, hard, once and mixed attribution, worked by hand; which are equal in loss and gradient inside the clip band."""

import pytest
import torch
from torch import Tensor

from arpo.algorithms.attribution import Attribution, attribute, leaf_parts
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


@pytest.mark.parametrize("mode", ["hard", "once"])
def test_hard_and_once_are_the_plain_mean_of_the_sharers(mode: Attribution) -> None:
    # node 0: (1 - 1) / 2 = 0; node 3: (1 - 1 + 0.5) / 3 = 1/6; the weights 1, 3, 2 play no part
    rows = attributed(mode)
    assert rows[0] == pytest.approx([0, 1, 0, 1 / 6], abs=1e-15)
    assert rows[1] == pytest.approx([0, 0, 0, 1 / 6], abs=1e-15)
    assert rows[2] == pytest.approx([0, 0, 0.5, 1 / 6], abs=1e-15)


def test_a_leaf_holds_a_part_of_each_token() -> None:
    # nodes of 2, 1, 1 and 3 sharers; and one that nobody passes
    assert leaf_parts(BELOW).tolist() == [1 / 2, 1, 1, 1 / 3]
    assert leaf_parts(torch.zeros(3, 1, dtype=torch.bool)).tolist() == [1]


def test_mixed_lies_between_its_own_and_the_weighted_mean() -> None:
    # node 0: weighted mean (1 * 1 + 3 * -1) / 4 = -1/2; mix 1/4: 1/4 * -1/2 + 3/4 * 1 = 5/8 and 1/4 * -1/2 - 3/4 = -7/8
    rows = attributed("mixed", 0.25)
    assert [row[0] for row in rows] == pytest.approx([5 / 8, -7 / 8, 0])
    assert attributed("mixed", 0.0) == attributed("soft")
    # node 3, the mean alone: (1 - 3 + 2 * 0.5) / 6 = -1/6
    assert attributed("mixed", 1.0)[2] == pytest.approx([0, 0, 0.5, -1 / 6], abs=1e-15)


def test_advantages_may_differ_from_node_to_node() -> None:
    own = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=F64)
    below = torch.tensor([[True, True], [True, False]])
    # node 0: (1 + 3) / 2; node 1: leaf 0 alone, what leaf 1 would say is not asked
    assert attribute(own, torch.ones(2, dtype=F64), below, "hard").tolist() == [[2.0, 2.0], [2.0, 0.0]]


def test_a_node_that_nobody_passes_is_0_in_all_modes() -> None:
    nobody = torch.zeros(3, 4, dtype=torch.bool)
    for mode in ("soft", "hard", "once", "mixed"):
        assert not attribute(OWN, WEIGHTS, nobody, mode).any()


def loss_and_gradient(mode: Attribution, log_ratio: Tensor, weights: Tensor = WEIGHTS) -> tuple[Tensor, Tensor]:
    """The clipped loss of one token per node."""
    given = log_ratio.clone().requires_grad_()
    credit = weights[:, None] * attribute(OWN, weights, BELOW, mode)
    loss = ppo_clip_loss(given, credit.clamp(min=0).sum(0), credit.clamp(max=0).sum(0)).loss
    loss.sum().backward()
    assert given.grad is not None
    return loss.detach(), given.grad


@pytest.mark.parametrize(("mode", "weights"), [("hard", torch.ones(3, dtype=F64)), ("mixed", WEIGHTS)])
def test_inside_the_band_they_are_soft(mode: Attribution, weights: Tensor) -> None:
    log_ratio = torch.tensor([0.1, -0.15, 0.05, 0.15], dtype=F64)
    soft = loss_and_gradient("soft", log_ratio, weights)
    for ours, expected in zip(loss_and_gradient(mode, log_ratio, weights), soft, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)


def test_hard_differs_inside_the_band_where_weights_differ() -> None:
    # node 0 at ratio 1: soft -(1 * 1 + 3 * -1) = 2; hard: the plain mean 0 for both
    at_1 = torch.zeros(4, dtype=F64)
    assert loss_and_gradient("soft", at_1)[1][0] == pytest.approx(2.0)
    assert loss_and_gradient("hard", at_1)[1][0] == 0


def test_outside_the_band_they_differ() -> None:
    # rho = 1.5 on node 0, weights 1: soft S+ = 1 held at 1.2, S- = -1 free: -(1.2 - 1.5) = 0.3, slope 1.5; hard: both 0
    log_ratio, alike = torch.tensor([1.5, 1.0, 1.0, 1.0], dtype=F64).log(), torch.ones(3, dtype=F64)
    soft, hard = loss_and_gradient("soft", log_ratio, alike), loss_and_gradient("hard", log_ratio, alike)
    assert (soft[0][0].item(), soft[1][0].item()) == pytest.approx((0.3, 1.5))
    assert (hard[0][0].item(), hard[1][0].item()) == (0.0, 0.0)
