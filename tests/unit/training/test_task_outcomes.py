"""Which groups count as mixed, and that a resumed run goes on with the counts."""

import json
from dataclasses import asdict, replace

import pytest

from arpo.rollout.rules import PastGroups
from arpo.training.checkpoint import TrainerState
from arpo.training.task_outcomes import TaskOutcomes
from arpo.types import Reward

SOLVED, UNSOLVED, MIXED = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 1.0)


def test_groups_are_counted_by_task(make_tree):
    state = TrainerState()
    outcomes = TaskOutcomes(state, counts=True)
    assert outcomes.past_groups() == {}
    outcomes.observe([make_tree(name="a", rewards=MIXED), make_tree(name="b", rewards=SOLVED)])
    outcomes.observe([make_tree(name="a", rewards=UNSOLVED), make_tree(name="c", rewards=MIXED)])
    assert state.outcomes == {"a": [2, 1], "b": [1, 0], "c": [1, 1]}
    assert outcomes.past_groups()["a"] == PastGroups(num_groups=2, num_mixed=1)


def test_a_group_is_mixed_by_its_answers_not_by_its_rewards(make_tree):
    """Rewards differ by their length or format: all three are wrong, or all right."""
    state = TrainerState()
    outcomes = TaskOutcomes(state, counts=True)
    wrong = make_tree(name="wrong", rewards=(0.0, -1.0, 0.4))
    right = make_tree(name="right", rewards=SOLVED)
    for leaf, value in zip(right.leaves(), (1.0, 0.9, 0.8), strict=True):
        leaf.reward = replace(leaf.reward or Reward(value=0), value=value)
    outcomes.observe([wrong, right])
    assert state.outcomes == {"wrong": [1, 0], "right": [1, 0]}


def test_without_verdicts_rewards_decide(make_tree):
    """A reward of one's own may grade no answer right or wrong; its groups would else never be mixed."""
    state = TrainerState()
    trees = [make_tree(name="unequal", rewards=(0.2, 0.9, 0.2)), make_tree(name="equal", rewards=(0.2, 0.2, 0.2))]
    for leaf in [leaf for tree in trees for leaf in tree.leaves()]:
        leaf.reward = Reward(value=(leaf.reward or Reward(value=0)).value)
    TaskOutcomes(state, counts=True).observe(trees)
    assert state.outcomes == {"unequal": [1, 1], "equal": [1, 0]}


def test_budgets_are_measured(make_tree):
    """Groups of three: N = 1 and N = 3, so budgets of 2 and 0; one of two tasks was seen before."""
    outcomes = TaskOutcomes(TrainerState(), counts=True)
    first, second, third = (make_tree(name=name) for name in "aab")
    assert outcomes.observe([first])["rollout/known_task_rate"] == 0
    third.settings = {"num_initial": 3}
    assert outcomes.observe([second, third]) == {
        "rollout/branch_budget_mean": 1, "rollout/branch_budget_min": 0, "rollout/branch_budget_max": 2,
        "rollout/known_task_rate": 0.5,
    }  # fmt: skip


def test_counts_survive_a_checkpoint(make_tree):
    state = TrainerState()
    TaskOutcomes(state, counts=True).observe([make_tree(name="a", rewards=MIXED)])
    restored = TrainerState(**json.loads(json.dumps(asdict(state))))
    assert restored == state
    outcomes = TaskOutcomes(restored, counts=True)
    outcomes.observe([make_tree(name="a", rewards=MIXED)])
    assert outcomes.past_groups() == {"a": PastGroups(num_groups=2, num_mixed=2)}


@pytest.mark.parametrize("rewards", [MIXED, SOLVED])
def test_nothing_is_counted_for_a_rule_that_does_not_ask(make_tree, rewards):
    state = TrainerState()
    outcomes = TaskOutcomes(state, counts=False)
    assert outcomes.observe([make_tree(rewards=rewards)]) == {}
    assert (state, outcomes.past_groups()) == (TrainerState(), {})
