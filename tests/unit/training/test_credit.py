import pytest

from arpo.training.config import AdvantageConfig, LossConfig
from arpo.training.credit import assign_credit, has_signal
from arpo.tree import RolloutTree

EXACT = AdvantageConfig(epsilon=1e-30)


def credit_of(tree: RolloutTree) -> dict[str, tuple[float, float]]:
    """(weight, advantage) of the nodes by name, in depth-first order."""
    names = ("prompt", "a", "observation", "b", "c", "d")
    return {name: (node.weight, node.advantage) for name, node in zip(names, tree.nodes, strict=True)}  # pyright: ignore


def test_every_token_counts_alike(make_tree):
    """Mean 0.5, std sqrt((0.25 + 0.25 + 0) / 2) = 0.5: advantages 1, -1, 0. Lengths 3 + 2, 3 + 6, 1: 15 tokens in all."""
    tree = make_tree((1.0, 0.0, 0.5))
    assert assign_credit([tree], EXACT, LossConfig(aggregation="token_mean")) == 15
    assert credit_of(tree) == {
        "prompt": (3, 0), "a": (2, 0), "observation": (2, 0), "b": (1, 1), "c": (1, -1), "d": (1, 0)
    }  # fmt: skip


def test_every_trajectory_counts_alike(make_tree):
    """Weights 1/5, 1/9, 1. On a: weight 14/45, advantage (1/5 - 1/9) / (14/45) = 4/14. On the prompt: (4/45) / (59/45)."""
    tree = make_tree((1.0, 0.0, 0.5))
    assert assign_credit([tree], EXACT, LossConfig(aggregation="sequence_mean")) == 3
    found = credit_of(tree)
    assert found["b"] == pytest.approx((1 / 5, 1))
    assert found["c"] == pytest.approx((1 / 9, -1))
    assert found["d"] == pytest.approx((1, 0))
    assert found["a"] == found["observation"] == pytest.approx((14 / 45, 4 / 14))
    assert found["prompt"] == pytest.approx((59 / 45, 4 / 59))


def test_without_the_standard_deviation(make_tree):
    tree = make_tree((1.0, 0.0, 0.5))
    assign_credit([tree], AdvantageConfig(normalize_std=False), LossConfig())
    assert [leaf.advantage for leaf in tree.leaves()] == [0.5, -0.5, 0.0]


def test_groups_are_normalised_apart_and_share_one_denominator(make_tree):
    """The second group's rewards are 10 times the first's plus 3: the same advantages."""
    first, second = make_tree((1.0, 0.0, 0.5)), make_tree((13.0, 3.0, 8.0), name="u")
    assert assign_credit([first, second], EXACT, LossConfig()) == 30
    assert [leaf.advantage for leaf in second.leaves()] == pytest.approx([leaf.advantage for leaf in first.leaves()])


def test_equal_rewards_give_no_signal(make_tree):
    tree, other = make_tree((-1.0, -1.0, -1.0)), make_tree((1.0, 0.0, 0.5))
    assign_credit([tree, other], AdvantageConfig(), LossConfig())
    assert {node.advantage for node in tree.nodes} == {0.0}
    assert not has_signal(tree)
    assert has_signal(other)


def test_credit_is_assigned_anew(make_tree):
    tree = make_tree()
    assign_credit([tree], AdvantageConfig(), LossConfig())
    before = credit_of(tree)
    assign_credit([tree], AdvantageConfig(), LossConfig())
    assert credit_of(tree) == before
