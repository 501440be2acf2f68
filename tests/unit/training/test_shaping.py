import pytest
import torch

from arpo.training.algorithm_config import KlConfig, OverlongConfig
from arpo.training.shaping import shape_rewards
from arpo.tree import NodeKind

OFF, NO_KL = OverlongConfig(), KlConfig()


def test_without_penalties_rewards_are_the_graders(make_tree):
    (rewards,) = shape_rewards([make_tree((1.0, 0.0, 0.5))], OFF, NO_KL, max_tokens=10)
    assert rewards.tolist() == [1.0, 0.0, 0.5]
    assert rewards.dtype == torch.float64


def test_long_trajectories_pay(make_tree):
    """5, 9 and 1 sampled tokens; limit 9, buffer 2/3 * 9 = 6: from 3 on, so 2/6, 6/6 and 0."""
    tree = make_tree((1.0, 0.0, 0.5))
    for overlong in (OverlongConfig(penalty=3.0, buffer=2 / 3), OverlongConfig(penalty=3.0, buffer=2 / 3, max_tokens=9)):
        limit = 9 if overlong.max_tokens is None else 1000
        (rewards,) = shape_rewards([tree], overlong, NO_KL, max_tokens=limit)
        assert rewards.tolist() == pytest.approx([1.0 - 1.0, 0.0 - 3.0, 0.5])
    assert [leaf.reward.value for leaf in tree.leaves()] == [1.0, 0.0, 0.5], "the grader's stay"


def test_a_long_page_costs_nothing(make_tree):
    """The policy did not write it: neither the prompt nor an observation counts."""
    short, long = make_tree(), make_tree()
    long.root.token_ids += [7] * 50
    next(node for node in long.nodes if node.kind is NodeKind.OBSERVATION).token_ids += [7] * 50
    overlong = OverlongConfig(penalty=1.0, buffer=1.0, max_tokens=12)
    found = shape_rewards([short, long], overlong, NO_KL, max_tokens=1000)
    assert found[0].tolist() == found[1].tolist() != [1.0, 0.0, 0.5]


def test_k1_acts_in_the_reward_alone(make_tree):
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 0.0, 0.0), name="u")]
    sums = [torch.tensor([2.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])]
    first, second = shape_rewards(trees, OFF, KlConfig(coefficient=0.1, estimator="k1"), max_tokens=10, kl_sums=sums)
    assert first.tolist() == pytest.approx([0.8, 0.1, 0.5])
    assert second.tolist() == pytest.approx([-0.1] * 3)
    for kl in (KlConfig(coefficient=0.1), KlConfig(coefficient=0.1, estimator="k2"), NO_KL):
        assert shape_rewards(trees, OFF, kl, max_tokens=10, kl_sums=sums)[0].tolist() == [1.0, 0.0, 0.5]


def test_k1_without_its_sums_is_an_error(make_tree):
    with pytest.raises(ValueError, match="kl_sums is None"):
        shape_rewards([make_tree()], OFF, KlConfig(coefficient=0.1, estimator="k1"), max_tokens=10)
