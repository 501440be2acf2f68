"""APPO's advantage and its factor of the future, worked by hand (arXiv:2606.12384)."""

import math

import pytest
import torch
from torch import Tensor

from arpo.algorithms.advantages import appo_advantages, future_scale, group_normalized_advantages

F64 = torch.float64
IS_BRANCH = torch.tensor([False, True, True, False, True])


def advantages(rewards: list[float], is_branch: Tensor = IS_BRANCH, **options: bool) -> list[float]:
    return appo_advantages(torch.tensor(rewards, dtype=F64), is_branch, **options).tolist()


def test_a_trajectory_is_compared_in_both_groups() -> None:
    # from the prompt 1 and 0: mean 1/2; branches 0, 1, 0: mean 1/3. (1/2 + 2/3) / 2 = 7/12, (-1/2 - 1/3) / 2 = -5/12
    expected = [7 / 12, 0, 0, -5 / 12, 0]
    assert advantages([1, 0, 1, 0, 0], normalize_std=False) == pytest.approx(expected, abs=1e-12)


def test_with_standard_deviations() -> None:
    # +-1/2 over sqrt(1/2): +-0.707107. Branches: squares 1/9 + 4/9 + 1/9 = 2/3 over 2, std 0.577350: 2/3 over it is 1.154701
    # and (-1/3) / 0.577350 = -0.577350
    expected = [(0.707107 + 1.154701) / 2, 0, 0, (-0.707107 - 0.577350) / 2, 0]
    assert advantages([1, 0, 1, 0, 0]) == pytest.approx(expected, abs=1e-5)


def test_a_group_of_equal_rewards_compares_nothing() -> None:
    # both from the prompt fail: nothing there; below the branches' mean by 1/3, over 0.577350, halved
    assert advantages([0, 0, 1, 0, 0]) == pytest.approx([-0.288675, 0, 0, -0.288675, 0], abs=1e-5)
    # all branches fail: GRPO's advantage, halved
    assert advantages([1, 0, 0, 0, 0]) == pytest.approx([0.353553, 0, 0, -0.353553, 0], abs=1e-5)
    # without std the distance from an even group counts: (1 - 1/2 + 1) / 2, (0 - 1/2 + 0) / 2
    assert advantages([1, 0, 0, 0, 0], normalize_std=False) == pytest.approx([0.75, 0, 0, -0.25, 0], abs=1e-12)


@pytest.mark.parametrize("rewards", [[0.1 * 3] * 5, [-1.1] * 5])
def test_equal_rewards_give_exactly_0(rewards: list[float]) -> None:
    for normalize_std in (True, False):
        assert advantages(rewards, normalize_std=normalize_std) == [0.0] * 5


def test_without_branches_it_is_grpo() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.5], dtype=F64)
    found = advantages(rewards.tolist(), torch.zeros(3, dtype=torch.bool))
    assert found == group_normalized_advantages(rewards).tolist()
    assert advantages([], torch.zeros(0, dtype=torch.bool)) == []


def test_the_factor_of_the_future() -> None:
    # half_life 1: gamma 1/2. First trajectory 0.1, -0.2, 0.4: sums 0.1 - 0.1 + 0.1 = 0.1, -0.2 + 0.2 = 0, 0.4; exp: 1.10517, 1,
    # 1.49 clipped to 1.2. Second: -0.5: 0.6065 clipped to 0.7, and to 1 by default.
    log_ratio, owner = torch.tensor([0.1, -0.2, 0.4, -0.5], dtype=F64), torch.tensor([0, 0, 0, 1])
    found = future_scale(log_ratio, owner, weight=1.0, clip_low=0.3, half_life=1.0)
    assert found.tolist() == pytest.approx([1 + math.exp(0.1), 2.0, 2.2, 1.7], abs=1e-12)
    half = future_scale(log_ratio, owner, half_life=1.0)
    assert half.tolist() == pytest.approx([1 + math.exp(0.1) / 2, 1.5, 1.6, 1.5], abs=1e-12)


def test_before_an_update_every_factor_is_the_same() -> None:
    assert future_scale(torch.zeros(3, dtype=F64), torch.tensor([0, 0, 1])).tolist() == [1.5, 1.5, 1.5]
    assert future_scale(torch.zeros(0, dtype=F64), torch.zeros(0, dtype=torch.long)).tolist() == []


def test_the_factor_has_no_gradient() -> None:
    log_ratio = torch.tensor([0.01, 0.02], dtype=F64, requires_grad=True)
    assert not future_scale(log_ratio, torch.tensor([0, 0])).requires_grad


@pytest.mark.parametrize("lengths", [[1], [7], [3, 1, 8], [1, 1, 1], [33, 2]])
def test_the_sums_by_doubling_are_the_sums_one_by_one(lengths: list[int]) -> None:
    torch.manual_seed(0)
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    values = 0.01 * torch.randn(len(owner), dtype=F64)
    gamma, expected, later = 2 ** (-1 / 5), [0.0] * len(owner), 0.0
    for t in reversed(range(len(owner))):
        is_last = t + 1 == len(owner) or owner[t + 1] != owner[t]
        later = float(values[t]) + (0.0 if is_last else gamma * later)
        expected[t] = 1 + math.exp(later)
    found = future_scale(values, owner, weight=1.0, clip_low=0.9, clip_high=9.0, half_life=5.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
