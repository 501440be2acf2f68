"""ARPO's GPG theorem on trees: the trainer's gradient is that of macro actions, each with its own advantage.

The reference takes every node as one macro action and computes ln pi(node | everything before it) by the stock model, one pass
per leaf and node; the trainer packs trees and sums over tokens.
"""

from collections.abc import Callable, Sequence
from random import Random

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.algorithms.aggregation import total_denominator
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import make_policy_batches
from arpo.models.attention import ATTENTION_NAME
from arpo.models.policy import PolicyModel
from arpo.training.algorithm_config import (
    AdvantageConfig,
    GigpoAdvantageConfig,
    LossConfig,
    MismatchConfig,
    OutcomeAdvantageConfig,
    PpoClipLossConfig,
    ReinforceLossConfig,
)
from arpo.training.credit import assign_credit
from arpo.training.objective import policy_objective
from arpo.tree import RolloutTree

from .random_trees import random_tree

Gradients = dict[str, Tensor]
PER_NODE = OutcomeAdvantageConfig(baseline="subtree_out", scale="none", leaf_weighting="inverse_branching")
CASES: list[tuple[AdvantageConfig, LossConfig]] = [
    (OutcomeAdvantageConfig(), ReinforceLossConfig(aggregation="sequence_mean")),
    (PER_NODE, ReinforceLossConfig(aggregation="constant")),
    (GigpoAdvantageConfig(), PpoClipLossConfig(aggregation="token_mean")),
]


def trees() -> list[RolloutTree]:
    return [random_tree(seed) for seed in (1, 2, 3)]


def gradients_of(model: PreTrainedModel) -> Gradients:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def trained(model: PreTrainedModel, trees: Sequence[RolloutTree], advantage: AdvantageConfig, loss: LossConfig) -> Gradients:
    """As training computes them, with one update per step, so that every ratio is 1."""
    model.set_attn_implementation(ATTENTION_NAME)
    policy = PolicyModel(model)
    credits = assign_credit(trees, advantage, loss, max_tokens=50)
    denominator = total_denominator(credit.denominator for credit in credits)
    for batch in make_policy_batches(trees, credits, BatchingConfig(max_tokens=10**6)):
        logprobs, entropies = policy(batch.packed)
        off = MismatchConfig(level="none")
        (policy_objective(logprobs, entropies, None, None, batch, loss, off).total / denominator).backward()
    return gradients_of(model)


def of_macro_actions(
    model: PreTrainedModel, trees: Sequence[RolloutTree], advantage: AdvantageConfig, loss: LossConfig
) -> Gradients:
    """-sum over leaves and the sampled nodes of their paths of w_i A_in ln pi(node | all before it); results have no term."""
    model.set_attn_implementation("sdpa")
    credits = assign_credit(trees, advantage, loss, max_tokens=50)
    denominator = total_denominator(credit.denominator for credit in credits)
    for tree, credit in zip(trees, credits, strict=True):
        for row, leaf in enumerate(tree.leaves()):
            state: list[int] = []
            for node in tree.path(leaf):
                if node.is_sampled:
                    ids = torch.tensor(state + node.token_ids)
                    log_p = model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
                    of_action = log_p[:-1].gather(-1, ids[1:, None])[len(state) - 1 :].sum()
                    (-credit.leaf_weights[row] * credit.advantages[row, node.id] * of_action / denominator).backward()
                state += node.token_ids
    return gradients_of(model)


def assert_same(found: Gradients, expected: Gradients) -> None:
    assert found.keys() == expected.keys()
    scale = max(float(gradient.norm()) for gradient in expected.values())
    assert scale > 1e-3
    assert max(float((found[name] - expected[name]).norm()) for name in expected) <= 1e-10 * scale


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel], in_own_format: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return in_own_format(make_model(dtype="float64"))


@pytest.mark.parametrize(("advantage", "loss"), CASES)
def test_the_gradient_is_that_of_nodes_as_macro_actions(
    advantage: AdvantageConfig, loss: LossConfig, model: PreTrainedModel
) -> None:
    """With one advantage per trajectory, one per node, and one per step."""
    assert_same(trained(model, trees(), advantage, loss), of_macro_actions(model, trees(), advantage, loss))


@pytest.mark.parametrize(("advantage", "loss"), CASES)
def test_where_completions_are_cut_into_macro_actions_changes_nothing(
    advantage: AdvantageConfig, loss: LossConfig, model: PreTrainedModel
) -> None:
    """Down to one token each: the usual form."""
    whole, random = trees(), Random(0)
    expected = trained(model, whole, advantage, loss)
    for every_token in (False, True):
        cut = trees()
        for tree in cut:
            for node in list(tree.nodes):
                while node.is_sampled and len(node.token_ids) > 1 and (every_token or random.random() < 0.5):
                    tree.split(node, len(node.token_ids) - 1)
        assert sum(len(tree.nodes) for tree in cut) > sum(len(tree.nodes) for tree in whole) + 5
        assert_same(trained(model, cut, advantage, loss), expected)
