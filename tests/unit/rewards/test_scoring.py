import pytest

from arpo.rewards.scoring import mean_scores, score_tree
from arpo.tree import NodeKind, RolloutTree, Trajectory
from arpo.types import Message, Reward, Task


def make_tree(num_leaves: int) -> RolloutTree:
    task = Task(id="t", messages=(Message(role="user", content="q"),), references=("1",), source="test")
    tree = RolloutTree.from_prompt(task, [1])
    for i in range(num_leaves):
        tree.append(tree.root, NodeKind.COMPLETION, [i], text=str(i))
    return tree


def by_text(trajectory: Trajectory) -> Reward:
    value = float(trajectory.leaf.text)
    return Reward(value=value, components={"exact_match": float(value == 1), "f1": value / 2}, reason=f"wrote {value:g}")


def test_every_leaf_is_scored_and_nothing_else():
    tree = make_tree(3)
    score_tree(tree, by_text)
    assert [(leaf.reward, leaf.reward_components, leaf.reward_reason) for leaf in tree.leaves()] == [
        (0.0, {"exact_match": 0.0, "f1": 0.0}, "wrote 0"),
        (1.0, {"exact_match": 1.0, "f1": 0.5}, "wrote 1"),
        (2.0, {"exact_match": 0.0, "f1": 1.0}, "wrote 2"),
    ]
    assert tree.root.reward is None


def test_means_are_over_leaves_not_over_trees():
    """Leaves 0 1 2 and 0: reward 3/4, one exact match of four, f1 (0 + 0.5 + 1 + 0) / 4; no component `format` counts as 0."""
    trees = [make_tree(3), make_tree(1)]
    for tree in trees:
        score_tree(tree, by_text)
    assert mean_scores(trees) == pytest.approx({"reward_mean": 0.75, "accuracy": 0.25, "f1": 0.375, "format_valid_rate": 0.0})
