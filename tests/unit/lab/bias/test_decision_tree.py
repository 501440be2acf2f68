import math

import numpy as np
import pytest

from arpo.lab.bias.decision_tree import DecisionTree


def test_the_gradient_of_one_choice_is_the_softmax_rule():
    # One choice of "y" (reward 1) and "x" (0) with logits ln 3 and 0: p = 3/4, J = p, dJ/dy = p (1 - p) = 3/16.
    tree = DecisionTree({"y": 1.0, "x": 0.0}, [math.log(3), 0.0])
    assert tree.expected_reward == pytest.approx(0.75)
    assert tree.gradient == pytest.approx([3 / 16, -3 / 16])


def test_a_call_leads_on_and_the_reward_is_that_of_the_whole_trajectory():
    # Uniform: "ay" 1/4 with reward 1, "as" 1/4, after whose result "y" 1/2 has reward 0.5; "b" 1/2 without reward.
    tree = DecisionTree({"ay": 1.0, "as": {"y": 0.5, "x": 0.0}, "b": 0.0})
    assert {t: p for t, (p, _, _) in zip(tree.rewards, tree.trajectories(), strict=True)} == pytest.approx(
        {"?ay": 0.25, "?as!y": 0.125, "?as!x": 0.125, "?b": 0.5}
    )
    assert tree.expected_reward == pytest.approx(0.25 + 0.5 / 8)


def test_the_gradient_is_that_of_finite_differences():
    tree, step = DecisionTree.random(3), 1e-6
    for index in range(tree.num_parameters):
        moved = np.zeros(tree.num_parameters)
        moved[index] = step
        up, down = (tree.with_parameters(tree.parameters + s * moved).expected_reward for s in (1, -1))
        assert (up - down) / (2 * step) == pytest.approx(tree.gradient[index], abs=1e-9)


def test_the_policy_of_the_study_has_the_probabilities_it_states():
    tree = DecisionTree.of_study()
    assert sum(p for p, _, _ in tree.trajectories()) == pytest.approx(1.0)
    # "?as!us!y": 0.7 * 0.8 * 0.5 * 0.55 * 0.6
    assert next(tree.trajectories())[0] == pytest.approx(0.7 * 0.8 * 0.5 * 0.55 * 0.6)
    entropy = {p: c.entropy for p, c in tree.choices.items()}
    assert entropy["?bs!"] < entropy["?"] < entropy["?as!"]
