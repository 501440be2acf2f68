"""APPO's advantage and its factor of the future, worked by hand (arXiv:2606.12384)."""

import math

import pytest
import torch

from arpo.algorithms.advantages import appo_advantages, future_scale, group_normalized_advantages

F64 = torch.float64
BELOW = torch.tensor(
    # root, a, b, c | d, e | f, g, h: trajectory 0 is a b c, its branches a d and a b e; trajectory 1 is f g, its branch f h
    [
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0, 0, 1, 0, 1],
    ],
    dtype=torch.bool,
)
IS_BRANCH = torch.tensor([False, True, True, False, True])


def on_paths(rewards: list[float], **options: bool) -> list[list[float]]:
    found = appo_advantages(torch.tensor(rewards, dtype=F64), IS_BRANCH, BELOW, **options)
    return torch.where(BELOW, found, 0.0).tolist()


def test_each_trajectory_gets_its_own_and_its_branches() -> None:
    # from the prompt: rewards 1 and 0, mean 1/2: +-1/2; branches 0, 1, 0, mean 1/3: -1/3, 2/3, -1/3
    first, below_a, below_b, second, below_f = on_paths([1, 0, 1, 0, 0], normalize_std=False)
    # both branches of the first pass a: 1/2 + (-1/3 + 2/3) / 2 = 2/3; the second one alone passes b: 1/2 + 2/3; c is its own
    assert first[1:4] == pytest.approx([2 / 3, 7 / 6, 1 / 2], abs=1e-12)
    # the branch of the second passes f: -1/2 - 1/3; g is its own
    assert second[6:8] == pytest.approx([-5 / 6, -1 / 2], abs=1e-12)
    assert below_a == below_b == below_f == [0.0] * 9


def test_with_standard_deviations() -> None:
    # +-1/2 over sqrt(1/2): +-0.707107; branches: squares 1/9 + 4/9 + 1/9 = 2/3 over 2, std 0.577350: -0.577350, 1.154701, ...
    first, _, _, second, _ = on_paths([1, 0, 1, 0, 0])
    assert first[1:4] == pytest.approx([0.707107 + 0.288675, 0.707107 + 1.154701, 0.707107], abs=1e-5)
    assert second[6:8] == pytest.approx([-0.707107 - 0.577350, -0.707107], abs=1e-5)


def test_equal_trajectories_learn_from_their_branches_alone() -> None:
    first, *_ = on_paths([1, 0, 1, 1, 0], normalize_std=False)
    assert first[1:4] == pytest.approx([1 / 6, 2 / 3, 0.0], abs=1e-12)


def test_without_branches_it_is_grpo() -> None:
    rewards, below = torch.tensor([1.0, 0.0, 0.5], dtype=F64), torch.eye(3, dtype=torch.bool)
    found = appo_advantages(rewards, torch.zeros(3, dtype=torch.bool), below)
    assert found.diagonal().tolist() == group_normalized_advantages(rewards).tolist()


def test_the_factor_of_the_future() -> None:
    # half_life 1: gamma 1/2. First trajectory 0.1, -0.2, 0.4: sums 0.1 - 0.1 + 0.1 = 0.1, -0.2 + 0.2 = 0, 0.4; exp: 1.10517, 1,
    # 1.49 clipped to 1.2. Second: -0.5: 0.6065 clipped to 0.8.
    log_ratio, owner = torch.tensor([0.1, -0.2, 0.4, -0.5], dtype=F64), torch.tensor([0, 0, 0, 1])
    found = future_scale(log_ratio, owner, weight=1.0, clip=0.2, half_life=1.0)
    assert found.tolist() == pytest.approx([1 + math.exp(0.1), 2.0, 2.2, 1.8], abs=1e-12)
    half = future_scale(log_ratio, owner, weight=0.5, clip=0.2, half_life=1.0)
    assert half.tolist() == pytest.approx([1 + math.exp(0.1) / 2, 1.5, 1.6, 1.4], abs=1e-12)


def test_before_an_update_every_factor_is_the_same() -> None:
    assert future_scale(torch.zeros(3, dtype=F64), torch.tensor([0, 0, 1])).tolist() == [2.0, 2.0, 2.0]
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
    assert future_scale(values, owner, clip=0.9, half_life=5.0).tolist() == pytest.approx(expected, abs=1e-12)
