"""Trees as flat rows: the fields by hand, and the same loss as the tree."""

import pytest
import torch

from arpo.algorithms.losses import ppo_clip_loss
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import TreeCredit, make_policy_batches
from arpo.batching.rows import leaf_rows
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Task

F64 = torch.float64


@pytest.fixture
def tree() -> RolloutTree:
    """prompt [7 8] -> a [1 2 3] -> result [9] -> b [4 5] and, forked there, c [6 6 6 6], in whose middle [10] forked off."""
    task = Task(id="t", messages=(Message(role="user", content="?"),), references=("",), source="s")
    tree = RolloutTree.from_prompt(task, [7, 8])
    a = tree.append(tree.root, NodeKind.COMPLETION, [1, 2, 3], logprobs=[-1.0, -2.0, -3.0])
    result = tree.append(a, NodeKind.OBSERVATION, [9])
    tree.append(result, NodeKind.COMPLETION, [4, 5], logprobs=[-4.0, -5.0])
    c = tree.append(result, NodeKind.COMPLETION, [6, 6, 6, 6], logprobs=[-0.1, -0.2, -0.3, -0.4], is_branch=True)
    first = tree.split(c, 2)
    tree.append(first, NodeKind.COMPLETION, [10], logprobs=[-0.5], is_branch=True)
    tree.append(tree.root, NodeKind.COMPLETION, [11], logprobs=[-0.6])
    return tree.renumbered(lambda node: (node.is_branch, node.token_ids))


def credit_of(tree: RolloutTree) -> TreeCredit:
    """Four leaves with advantages 1, -1, 0.5, 2 on all they pass, weights 1, 1/2, 1/2, 1, and a factor on one node's tokens."""
    leaves = tree.leaves()
    advantages = torch.zeros(len(leaves), len(tree.nodes), dtype=F64)
    for row, (leaf, value) in enumerate(zip(leaves, (1.0, -1.0, 0.5, 2.0), strict=True)):
        advantages[row, [node.id for node in tree.path(leaf) if node.is_sampled]] = value
    scales = [torch.tensor([1.0, 2.0, 0.5], dtype=F64) if node.token_ids == [1, 2, 3] else None for node in tree.nodes]
    return TreeCredit(torch.tensor([1.0, 0.5, 0.5, 1.0], dtype=F64), advantages, 10.0, scales)


def test_rows_are_the_trajectories(tree: RolloutTree) -> None:
    tree.leaves()[0].reward = None
    rows = leaf_rows(tree, credit_of(tree))
    by_completion = {tuple(row.completion_ids): row for row in rows}
    b = by_completion[1, 2, 3, 9, 4, 5]
    assert b.prompt_ids == [7, 8]
    assert b.token_ids == [7, 8, 1, 2, 3, 9, 4, 5]
    assert b.completion_mask == [True] * 3 + [False] + [True] * 2
    assert b.logprobs == [-1.0, -2.0, -3.0, 0.0, -4.0, -5.0]
    assert (b.tree_id, b.reward) == ("t", None)
    value = b.advantages[-1]
    assert b.advantages == [value, 2 * value, 0.5 * value, 0.0, value, value], "factors act, observations have none"


def test_a_branch_names_the_trajectory_it_forked_from(tree: RolloutTree) -> None:
    rows = leaf_rows(tree, credit_of(tree))
    index = {tuple(row.completion_ids): i for i, row in enumerate(rows)}
    b, c = index[1, 2, 3, 9, 4, 5], index[1, 2, 3, 9, 6, 6, 6, 6]
    assert rows[index[(11,)]].branch_parent is None
    assert rows[b].branch_parent is None
    assert rows[c].branch_parent == b
    assert rows[index[1, 2, 3, 9, 6, 6, 10]].branch_parent == c


def test_rows_give_the_loss_of_the_tree(tree: RolloutTree) -> None:
    """The clipped loss token by token over rows, and once per shared token over the tree, at the same ratios."""
    credit = credit_of(tree)
    (batch,) = make_policy_batches([tree], [credit], BatchingConfig(max_tokens=100))
    shift = {7: 0.0} | {token: 0.05 * token for token in range(1, 12)}
    log_ratio = torch.tensor([shift[int(i)] for i in batch.packed.targets], dtype=F64)
    credit_sums = batch.token_credit()
    of_tree = ppo_clip_loss(log_ratio, credit_sums.positive, credit_sums.negative, clip_low=0.2, clip_high=0.28).loss.sum()
    of_rows = 0.0
    for row in leaf_rows(tree, credit):
        for token, is_trained, advantage in zip(row.completion_ids, row.completion_mask, row.advantages, strict=True):
            if is_trained:
                ratio = torch.tensor(shift[token], dtype=F64).exp()
                of_rows -= row.weight * float(min(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage))
    assert float(of_tree) == pytest.approx(of_rows, rel=1e-12)
