"""The trees training is measured on have the sizes they are named after."""

import pytest

from arpo.lab.bench.training_data import agent_trees, count_trees, draw_rewards, quickstart_like_trees, synthetic_tree
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Task


def small_tree() -> RolloutTree:
    """Prompt [2 tokens] -> completion [3] -> observation [1] -> completions [2] and [4]."""
    tree = RolloutTree.from_prompt(
        Task(id="t", messages=(Message(role="user", content="?"),), references=(), source="s"), [7, 8]
    )
    call = tree.append(tree.root, NodeKind.COMPLETION, [1, 2, 3], logprobs=[-1.0, -2.0, -3.0])
    result = tree.append(call, NodeKind.OBSERVATION, [9])
    tree.append(result, NodeKind.COMPLETION, [4, 5], logprobs=[-4.0, -5.0])
    tree.append(result, NodeKind.COMPLETION, [4, 5, 6, 6], logprobs=[-0.1, -0.2, -0.3, -0.4])
    return tree


def test_counts_worked_by_hand() -> None:
    counts = count_trees([small_tree(), small_tree()])
    assert counts.num_leaves == 4
    assert counts.unique_tokens == 2 * (2 + 3 + 1 + 2 + 4)
    assert counts.total_tokens == 2 * (8 + 10)
    assert counts.sampled_tokens == 2 * (3 + 2 + 4)
    assert (counts.longest_leaf, counts.leaf_length, counts.sharing) == (10, 9, 1.5)
    # the 6 shared tokens see 1 to 6, the leaves' own 7, 8 and 7, 8, 9, 10
    assert counts.visible_pairs == 2 * (21 + 15 + 34)


@pytest.mark.parametrize("leaf_length", [256, 1000, 4096])
@pytest.mark.parametrize("sharing", [1.0, 1.25, 1.5, 2.0, 3.0, 4.0])
def test_a_synthetic_tree_shares_as_asked(leaf_length: int, sharing: float) -> None:
    tree = synthetic_tree(leaf_length, sharing, num_ids=500)
    counts = count_trees([tree])
    assert [len(t.token_ids) for t in tree.trajectories()] == [leaf_length] * 16
    # rounding: half a token in the prompt and each of three levels, of which there are 14, against 16 leaf ends
    assert counts.unique_tokens == pytest.approx(16 * leaf_length / sharing, abs=32)
    assert all(0 <= token < 500 for node in tree.nodes for token in node.token_ids)
    assert all(t.leaf.is_sampled for t in tree.trajectories())
    forks = [node for node in tree.nodes if len(tree.children[node.id]) > 1]
    assert {node.kind for node in forks} <= {NodeKind.PROMPT, NodeKind.OBSERVATION}  # a rollout forks after a result


def test_the_worked_example_of_the_docstring() -> None:
    tree = synthetic_tree(256, 2.0, num_ids=500)
    assert len(tree.root.token_ids) == 78
    # 78 + (2 + 4 + 8) levels of 26 + 16 ends of 256 - 78 - 3 * 26
    assert count_trees([tree]).unique_tokens == 78 + 14 * 26 + 16 * 100 == 2042


def test_the_quickstarts_shape() -> None:
    counts = count_trees(quickstart_like_trees(num_ids=500, num_trees=2))
    assert counts.num_leaves == 32
    assert counts.unique_tokens == 2 * (12 + 8 * (9 + 38 + 2 * (9 + 31 + 13)))
    assert counts.total_tokens == 32 * (12 + 9 + 38 + 9 + 31 + 13)


def test_an_agents_groups() -> None:
    # 75 of the prompt, three turns of 50 and two results of 120; forks after the first or the second result
    for sharing, unique in ((1.5, 75 + 8 * (170 + 2 * 220)), (2.0, 75 + 8 * (340 + 2 * 50))):
        counts = count_trees(agent_trees(sharing, num_ids=500, num_trees=2))
        assert (counts.num_leaves, counts.total_tokens, counts.leaf_length) == (32, 2 * 16 * 465, 465)
        assert counts.unique_tokens == 2 * unique
        assert counts.sharing == pytest.approx(sharing, rel=0.04)


def test_every_group_has_signal() -> None:
    trees = quickstart_like_trees(num_ids=500, num_trees=3)
    draw_rewards(trees)
    rewards = [[leaf.reward.value for leaf in tree.leaves()] for tree in trees]
    assert all(sum(group) == 8 for group in rewards)
    assert rewards[0] != rewards[1]
