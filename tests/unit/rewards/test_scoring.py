import pytest

from arpo.rewards.scoring import mean_components, mean_scores, rewards_of, score_tree
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
    assert [(leaf.reward.value, leaf.reward.components["f1"], leaf.reward.reason) for leaf in tree.leaves()] == [
        (0.0, 0.0, "wrote 0"), (1.0, 0.5, "wrote 1"), (2.0, 1.0, "wrote 2"),
    ]  # fmt: skip
    assert [leaf.is_correct for leaf in tree.leaves()] == [False, True, False], "by the function's own exact match"
    assert tree.root.reward is None


def test_means_are_over_leaves_not_over_trees():
    """Leaves 0 1 2 and 0: reward 3/4, one exact match of four, f1 (0 + 0.5 + 1 + 0) / 4; none is well formed."""
    trees = [make_tree(3), make_tree(1)]
    for tree in trees:
        score_tree(tree, by_text)
    assert mean_scores(rewards_of(trees)) == pytest.approx(
        {"reward_mean": 0.75, "accuracy": 0.25, "exact_match": 0.25, "f1": 0.375, "format_valid_rate": 0.0}
    )


def test_right_and_exact_are_two_means():
    """Two right answers of three that were graded, none of them exact; a leaf without reward is in no mean."""
    tree = make_tree(5)
    for leaf, is_correct in zip(tree.leaves(), (True, True, False, None), strict=False):
        leaf.reward = Reward(value=0.5, is_correct=is_correct, components={"exact_match": 0.0, "format": 1.0})
    assert mean_scores(rewards_of([tree])) == {
        "reward_mean": 0.5, "accuracy": 2 / 3, "exact_match": 0.0, "format_valid_rate": 1.0,
    }  # fmt: skip


def test_the_mean_of_nothing_is_absent():
    assert mean_scores(rewards_of([])) == mean_scores(rewards_of([make_tree(2)])) == {}


def test_a_reward_that_knows_no_exact_match_has_no_accuracy(make_trajectory):
    """A number as reward, and an answer without a box: nothing says whether it is right. With a box, exact match does."""
    unboxed = make_trajectory("<think> so </think> <answer> Kelford </answer>")
    boxed = make_trajectory("<think> so </think> <answer> \\boxed{Kelford} </answer>")
    without_references = make_trajectory("<think> so </think> <answer> \\boxed{Kelford} </answer>", references=())

    def scores(*trajectories: Trajectory, reward_fn=lambda _: 1.0) -> dict[str, float]:
        for trajectory in trajectories:
            score_tree(trajectory.tree, reward_fn)
        return mean_scores(rewards_of(trajectory.tree for trajectory in trajectories))

    assert scores(unboxed) == {"reward_mean": 1.0, "format_valid_rate": 0.0}
    assert scores(without_references) == {"reward_mean": 1.0, "format_valid_rate": 1.0}
    compared = scores(unboxed, boxed)
    assert (compared["accuracy"], compared["exact_match"], compared["f1"]) == (0.5, 0.5, 0.5), "one of the two is a match"
    said = scores(unboxed, reward_fn=lambda _: Reward(value=1.0, is_correct=False))
    assert said["accuracy"] == 0.0, "the function itself says that it is wrong"


def test_components_but_the_scores_are_means_by_name():
    """Two rewards with `style` 1 and 0, one with `cost` 4; exact_match is a score, no component of its own."""
    rewards = [
        Reward(value=1.0, components={"style": 1.0, "exact_match": 1.0}),
        Reward(value=0.0, components={"style": 0.0, "cost": 4.0}),
    ]
    assert mean_components(rewards) == {"cost": 4.0, "style": 0.5}
