"""TreeRL's process reward, worked by hand (arXiv:2506.11902)."""

import math
from random import Random
from statistics import fmean

import pytest
import torch

from arpo.algorithms.advantages import treerl_advantages

F64 = torch.float64


def advantages(rewards: list[float], paths: list[list[int]], **options: object) -> list[float]:
    """Of nodes 0, 1, ...; `paths` has the nodes each leaf passes."""
    below = torch.tensor([[n in path for n in range(max(map(max, paths)) + 1)] for path in paths])
    return treerl_advantages(torch.tensor(rewards, dtype=F64), below, **options).tolist()  # pyright: ignore[reportArgumentType]


def test_global_and_local_advantage() -> None:
    # root 0; a = 1 shared by two leaves, then b = 2 and c = 3; d = 4 alone. V(root) = 1/3, V(a) = 1/2
    # A(a) = (1/2 - 1/3 + 1/2 - 1/3) / sqrt(2); A(b) = 1 - 1/3 + 1 - 1/2 = 7/6; A(c) = -1/3 - 1/2 = -5/6; A(d) = -1/3 - 1/3
    expected = [0, 1 / 3 / math.sqrt(2), 7 / 6, -5 / 6, -2 / 3]
    assert advantages([1, 0, 0], [[0, 1, 2], [0, 1, 3], [0, 4]]) == pytest.approx(expected, abs=1e-12)


def test_a_step_is_a_stretch_between_forks() -> None:
    # as above, with a cut in two by an observation and b in three: parts of a step have its advantage
    whole = advantages([1, 0, 0], [[0, 1, 2], [0, 1, 3], [0, 4]])
    cut = advantages([1, 0, 0], [[0, 1, 2, 3, 4, 5], [0, 1, 2, 6], [0, 7]])
    assert cut == [whole[i] for i in (0, 1, 1, 2, 2, 2, 3, 4)]


def test_three_levels_and_weights() -> None:
    # leaves 1, 0, 0.5, 0: the first three share a = 1, the first two of them b = 2; then 3, 4; 5; and 6 alone
    # V(root) = 3/8, V(a) = 1/2, V(b) = 1/2: A(a) = (1/8 + 1/8) / sqrt(3), A(b) = (1/8 + 0) / sqrt(2)
    paths = [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5], [0, 6]]
    expected = [0, 0.25 / math.sqrt(3), 0.125 / math.sqrt(2), 5 / 8 + 1 / 2, -3 / 8 - 1 / 2, 1 / 8 + 0, -3 / 8 - 3 / 8]
    assert advantages([1, 0, 0.5, 0], paths) == pytest.approx(expected, abs=1e-12)
    # weights 1, 1, 2, 4: V(root) = (1 + 1) / 8 = 1/4, V(a) = 2 / 4, V(b) = 1/2
    weighted = advantages([1, 0, 0.5, 0], paths, weights=torch.tensor([1.0, 1, 2, 4], dtype=F64))
    assert weighted[:3] == pytest.approx([0, 0.5 / math.sqrt(3), 0.25 / math.sqrt(2)], abs=1e-12)
    # std of 1, 0, 0.5, 0 with n - 1: mean 3/8, squares 25/64 + 9/64 + 1/64 + 9/64 = 44/64 over 3
    scaled = advantages([1, 0, 0.5, 0], paths, normalize_std=True)
    assert scaled == pytest.approx([x / math.sqrt(44 / 64 / 3) for x in expected], abs=1e-5)


def test_without_forks_it_is_twice_the_centred_reward() -> None:
    assert advantages([1, 0, 0.5, 0.5], [[0, 1], [0, 2], [0, 3], [0, 4]]) == pytest.approx([0, 1, -1, 0, 0], abs=1e-12)


@pytest.mark.parametrize("rewards", [[], [0.7], [0.1 * 3] * 4])
@pytest.mark.parametrize("normalize_std", [True, False])
def test_equal_rewards_get_exactly_0(rewards: list[float], normalize_std: bool) -> None:
    below = torch.tensor([[True, i < 2, i >= 2 or len(rewards) == 1] for i in range(len(rewards))], dtype=torch.bool).reshape(
        -1, 3
    )
    assert treerl_advantages(torch.tensor(rewards, dtype=F64), below, normalize_std=normalize_std).tolist() == [0.0] * 3


def test_random_trees_by_walking_them() -> None:
    """Against the paper's words on a tree of segments: V, its parent's V and the root's, over the root of the leaves."""
    for seed in range(200):
        random = Random(seed)
        parents, leaves_of = [None], list[int]()
        while len(parents) < 12:
            parents.append(random.randrange(len(parents)))
        leaves_of = [n for n in range(12) if n not in parents]
        rewards = {leaf: random.random() for leaf in leaves_of}

        def path(node: int | None, parents: list = parents) -> list[int]:
            return [] if node is None else [*path(parents[node]), node]

        below = {n: [leaf for leaf in leaves_of if n in path(leaf)] for n in range(12)}
        value = {n: fmean(rewards[leaf] for leaf in below[n]) for n in range(12)}
        expected = []
        for node in range(12):
            wider = [n for n in path(node) if len(below[n]) > len(below[node])]
            parent = wider[-1] if wider else 0
            expected.append((2 * value[node] - value[0] - value[parent]) / math.sqrt(len(below[node])))
        found = advantages([rewards[leaf] for leaf in leaves_of], [path(leaf) for leaf in leaves_of])
        assert found == pytest.approx(expected, abs=1e-12)
