"""What a loss needs of each token and each leaf of a batch: hand-worked on one small tree."""

import pytest
import torch
from torch import Tensor

from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import PolicyBatch, TreeCredit, make_policy_batches
from arpo.errors import ConfigError
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Task

TASK = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="s")
F64 = torch.float64
WHOLE, FLAT = BatchingConfig(max_tokens=100), BatchingConfig(packing="flat", max_tokens=100)


def sample(tree: RolloutTree, parent: Node, ids: list[int]) -> Node:
    return tree.append(parent, NodeKind.COMPLETION, ids, logprobs=[-float(i) for i in ids], entropies=[0.0] * len(ids))


@pytest.fixture
def tree() -> RolloutTree:
    """prompt 1 2 -> completion 3 4 -> observation 5 -> leaves 6 and 7 8; and a top-up 9 at the prompt."""
    tree = RolloutTree.from_prompt(TASK, [1, 2])
    shared = sample(tree, tree.root, [3, 4])
    seen = tree.append(shared, NodeKind.OBSERVATION, [5])
    sample(tree, seen, [6])
    sample(tree, seen, [7, 8])
    sample(tree, tree.root, [9])
    return tree


def credit(scale: bool = False) -> TreeCredit:
    """Leaves of weights 1, 0.5, 2 and advantages 1, -0.5, 0.25 on every node, the first leaf 3 on its own."""
    advantages = torch.tensor([[1.0], [-0.5], [0.25]], dtype=F64).repeat(1, 6)
    advantages[0, 3] = 3.0
    factors = [None, torch.tensor([2.0, -1.0]), None, None, torch.tensor([1.0, 0.5]), None] if scale else None
    return TreeCredit(torch.tensor([1.0, 0.5, 2.0], dtype=F64), advantages, 1.0, factors)


def batches(tree: RolloutTree, config: BatchingConfig, scale: bool = False) -> list[PolicyBatch]:
    return make_policy_batches([tree], [credit(scale)], config)


def test_only_sampled_tokens_are_targets_each_once(tree: RolloutTree) -> None:
    (batch,) = batches(tree, WHOLE)
    assert batch.packed.targets.tolist() == [3, 4, 6, 7, 8, 9]
    assert batch.rollout_logprobs.tolist() == [-3, -4, -6, -7, -8, -9]
    assert batch.num_nodes == 4
    assert batch.node_of.tolist() == [0, 0, 1, 2, 2, 3]
    assert batch.leaf_lengths.tolist() == [3, 4, 1]
    assert batch.is_first.all()
    # predictors: 3 by the prompt's 2, 6 and 7 by the observation's 5, 9 by the prompt's 2 again
    predicting = batch.packed.token_ids[batch.packed.predictors].tolist()
    assert predicting == [2, 3, 5, 5, 7, 2]


def test_credit_is_summed_over_the_leaves_through_a_token(tree: RolloutTree) -> None:
    (batch,) = batches(tree, WHOLE)
    positive, negative, weight = batch.token_credit()
    # on 3 and 4: 1 * 1 and 0.5 * -0.5; on 6: 1 * 3; on 7 and 8: 0.5 * -0.5; on 9: 2 * 0.25
    assert positive.tolist() == [1, 1, 3, 0, 0, 0.5]
    assert negative.tolist() == [-0.25, -0.25, 0, -0.25, -0.25, 0]
    assert weight.tolist() == [1.5, 1.5, 1, 0.5, 0.5, 2]
    assert {positive.dtype, negative.dtype, weight.dtype} == {F64}


def test_a_negative_factor_swaps_gains_and_losses(tree: RolloutTree) -> None:
    (batch,) = batches(tree, WHOLE, scale=True)
    assert batch.token_scale.tolist() == [2, -1, 1, 1, 0.5, 1]
    positive, negative, weight = batch.token_credit()
    # on 3, factor 2: 2 * 1 and 2 * -0.25; on 4, factor -1: -1 * -0.25 and -1 * 1; on 8, factor 0.5: 0.5 * -0.25
    assert positive.tolist() == [2, 0.25, 3, 0, 0, 0.5]
    assert negative.tolist() == [-0.5, -1, 0, -0.25, -0.125, 0]
    assert weight.tolist() == [1.5, 1.5, 1, 0.5, 0.5, 2]


def test_a_scale_per_leaf_multiplies_weights(tree: RolloutTree) -> None:
    (batch,) = batches(tree, WHOLE)
    positive, negative, weight = batch.token_credit(torch.tensor([2.0, 4.0, 0.0]))
    # on 3 and 4: 2 * 1 and 4 * -0.25; on 6: 2 * 3; on 7 and 8: 4 * -0.25
    assert positive.tolist() == [2, 2, 6, 0, 0, 0]
    assert negative.tolist() == [-1, -1, 0, -1, -1, 0]
    assert weight.tolist() == [4, 4, 2, 2, 2, 0]


def test_sums_of_leaves_run_over_their_whole_paths(tree: RolloutTree) -> None:
    (batch,) = batches(tree, WHOLE)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], dtype=F64, requires_grad=True)
    sums = batch.leaf_sums(values)
    assert sums.tolist() == [7, 27, 32]  # 1 + 2 + 4; 1 + 2 + 8 + 16; 32
    assert batch.leaf_sums(torch.ones(6)).tolist() == batch.leaf_lengths.tolist()
    (gradient,) = torch.autograd.grad(sums, values, torch.tensor([1.0, 10.0, 100.0], dtype=F64))
    assert gradient.tolist() == [11, 11, 1, 10, 10, 100]


@pytest.mark.parametrize("config", [WHOLE, FLAT, BatchingConfig(max_tokens=8), BatchingConfig(max_tokens=7)])
def test_however_trees_are_cut_the_parts_add_up(config: BatchingConfig, tree: RolloutTree) -> None:
    """By token id: credit summed over the parts, and each token first once."""
    (whole,) = batches(tree, WHOLE, scale=True)
    parts = batches(tree, config, scale=True)

    def by_token(values: list[tuple[PolicyBatch, Tensor]]) -> Tensor:
        return sum((torch.zeros(10, dtype=F64).index_add(0, b.packed.targets, v.double()) for b, v in values), torch.zeros(10))

    for part in range(3):
        found = by_token([(b, b.token_credit()[part]) for b in parts])
        torch.testing.assert_close(found, by_token([(whole, whole.token_credit()[part])]))
    assert by_token([(b, b.is_first) for b in parts])[[3, 4, 6, 7, 8, 9]].tolist() == [1] * 6
    sums = torch.cat([b.leaf_sums(b.packed.targets.double()) for b in parts])
    assert sums.tolist() == [3 + 4 + 6, 3 + 4 + 7 + 8, 9]
    assert torch.cat([b.leaf_weights for b in parts]).tolist() == [1, 0.5, 2]


def test_flat_packs_leaf_by_leaf(tree: RolloutTree) -> None:
    (batch,) = batches(tree, FLAT)
    assert batch.packed.token_ids.tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 7, 8, 1, 2, 9]
    assert batch.packed.positions.tolist() == [*range(6), *range(7), *range(3)]
    assert batch.packed.targets.tolist() == [3, 4, 6, 3, 4, 7, 8, 9]
    assert batch.is_first.tolist() == [True, True, True, False, False, True, True, True]
    assert batch.token_credit().positive.tolist() == [1, 1, 3, 0, 0, 0, 0, 0.5]


def test_trees_are_grouped_by_their_unique_tokens(tree: RolloutTree) -> None:
    def sizes(num_trees: int, config: BatchingConfig) -> list[int]:
        found = make_policy_batches([tree] * num_trees, [credit()] * num_trees, config)
        return [len(batch.packed.token_ids) for batch in found]

    assert tree.num_unique_tokens == 9
    assert sizes(5, BatchingConfig(max_tokens=18)) == [18, 18, 9]
    assert sizes(0, WHOLE) == []
    # the paths have 6, 7 and 3 tokens; cut once, only the prompt is computed twice: 8 + 3
    assert sizes(1, BatchingConfig(max_tokens=8)) == [8, 3]
    assert sizes(2, FLAT) == [32]


def test_a_prompt_alone_adds_nothing(tree: RolloutTree) -> None:
    bare = RolloutTree.from_prompt(TASK, [1, 2])
    nothing = TreeCredit(torch.zeros(0, dtype=F64), torch.zeros(0, 1, dtype=F64), 0.0)
    (batch,) = make_policy_batches([bare, tree], [nothing, credit()], WHOLE)
    assert len(batch.packed.token_ids) == 9


def test_a_leaf_without_a_sampled_token_has_length_0(tree: RolloutTree) -> None:
    """A top-up that never came back from its tool, with nothing sampled: no token has an advantage from it."""
    tree.append(tree.root, NodeKind.OBSERVATION, [10])
    weights = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=F64)
    (batch,) = make_policy_batches([tree], [TreeCredit(weights, torch.ones(4, 7, dtype=F64), 1.0)], WHOLE)
    assert batch.leaf_lengths.tolist() == [3, 4, 1, 0]
    assert batch.leaf_sums(torch.ones(6)).tolist() == [3, 4, 1, 0]
    assert batch.token_credit().weight.tolist() == [1.5, 1.5, 1, 0.5, 0.5, 2]


def test_what_does_not_fit_together_is_refused(tree: RolloutTree) -> None:
    with pytest.raises(ConfigError, match=r"batching\.max_tokens = 6"):
        batches(tree, BatchingConfig(max_tokens=6))
    wrong = TreeCredit(torch.ones(2, dtype=F64), torch.ones(3, 6, dtype=F64), 1.0)
    with pytest.raises(ValueError, match="3 leaves and 6 nodes"):
        make_policy_batches([tree], [wrong], WHOLE)
    tree.nodes[1].logprobs = [-1.0]
    with pytest.raises(ValueError, match="node 1 has 2 tokens"):
        batches(tree, WHOLE)


def test_moving_to_a_device_keeps_everything(tree: RolloutTree) -> None:
    (batch,) = batches(tree, WHOLE)
    moved = batch.to(torch.device("cpu"))
    assert moved.num_nodes == batch.num_nodes
    assert torch.equal(moved.packed.token_ids, batch.packed.token_ids)
    assert torch.equal(moved.token_credit().positive, batch.token_credit().positive)
