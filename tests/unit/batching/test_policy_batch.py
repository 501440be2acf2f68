"""What the loss needs of each token: signed credit summed over the leaves below it, and the engine's log-prob."""

import pytest

from arpo.batching.policy_batch import make_policy_batches, signed_weights
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Task

TASK = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="s")


def sample(
    tree: RolloutTree, parent: Node, ids: list[int], weight: float | None = None, advantage: float | None = None
) -> Node:
    node = tree.append(parent, NodeKind.COMPLETION, ids, logprobs=[-float(i) for i in ids], entropies=[0.0] * len(ids))
    node.weight, node.advantage = weight, advantage
    return node


@pytest.fixture
def tree() -> RolloutTree:
    """prompt 1 2 -> completion 3 4 -> observation 5 -> leaves 6 and 7 8; and a top-up 9 at the prompt."""
    tree = RolloutTree.from_prompt(TASK, [1, 2])
    shared = sample(tree, tree.root, [3, 4])
    seen = tree.append(shared, NodeKind.OBSERVATION, [5])
    sample(tree, seen, [6], weight=1.0, advantage=1.0)
    sample(tree, seen, [7, 8], weight=0.5, advantage=-0.5)
    sample(tree, tree.root, [9], weight=2.0, advantage=0.25)
    return tree


def test_credit_is_summed_over_the_leaves_below(tree: RolloutTree) -> None:
    positive, negative = signed_weights(tree)
    # leaves: 1 * 1 = 1, 0.5 * -0.5 = -0.25, 2 * 0.25 = 0.5; node 1 and its observation have the first two below them
    assert positive == [1.5, 1.0, 1.0, 1.0, 0.0, 0.5]
    assert negative == [-0.25, -0.25, -0.25, 0.0, -0.25, 0.0]


def test_only_sampled_tokens_are_targets_each_once(tree: RolloutTree) -> None:
    (batch,) = make_policy_batches([tree], max_tokens=100)
    assert batch.packed.targets.tolist() == [3, 4, 6, 7, 8, 9]
    assert batch.rollout_logprobs.tolist() == [-3, -4, -6, -7, -8, -9]
    assert batch.positive.tolist() == [1, 1, 1, 0, 0, 0.5]
    assert batch.negative.tolist() == [-0.25, -0.25, 0, -0.25, -0.25, 0]
    # predictors: 3 by the prompt's 2, 6 and 7 by the observation's 5, 9 by the prompt's 2 again
    predicting = batch.packed.token_ids[batch.packed.predictors].tolist()
    assert predicting == [2, 3, 5, 5, 7, 2]


def test_trees_are_grouped_by_their_unique_tokens(tree: RolloutTree) -> None:
    assert tree.num_unique_tokens == 9
    assert [len(b.packed.token_ids) for b in make_policy_batches([tree] * 5, max_tokens=18)] == [18, 18, 9]
    assert [len(b.packed.token_ids) for b in make_policy_batches([tree] * 2, max_tokens=1)] == [9, 9]
    assert make_policy_batches([], max_tokens=18) == []


def test_a_tree_without_credit_is_refused(tree: RolloutTree) -> None:
    tree.leaves()[0].advantage = None
    with pytest.raises(ValueError, match="assign_credit"):
        make_policy_batches([tree], max_tokens=100)
