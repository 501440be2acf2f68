"""Credit and loss of random trees equal plain computations that know no packing: token by token, or leaf by leaf.

The trees fork at prompts, at results and inside completions, at any depth; some paths end with a result.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from statistics import mean, stdev

import pytest
import torch

from arpo.algorithms.aggregation import total_denominator
from arpo.algorithms.losses import ppo_clip_loss
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import make_policy_batches
from arpo.batching.rows import leaf_rows
from arpo.training.algorithm_config import OutcomeAdvantageConfig, PpoClipLossConfig
from arpo.training.credit import assign_credit
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.shares import node_shares

from .random_trees import random_tree

AGGREGATIONS = ("token_mean", "sequence_mean", "constant")
MAX_TOKENS = 50
TREES = [random_tree(seed) for seed in range(40)]


def sharers_of(tree: RolloutTree) -> dict[int, list[int]]:
    """Rows of the leaves that pass each sampled node, by its id."""
    found: dict[int, list[int]] = {node.id: [] for node in tree.nodes if node.is_sampled}
    for row, leaf in enumerate(tree.leaves()):
        for node in tree.path(leaf):
            if node.is_sampled:
                found[node.id].append(row)
    return found


def test_the_trees_fork_everywhere() -> None:
    """What follows proves something: forks at prompts, results and completions, under forks; uneven numbers of sharers."""
    kinds = {tree.nodes[i].kind for tree in TREES for i, children in enumerate(tree.children) if len(children) > 1}
    assert kinds == set(NodeKind)
    numbers = {len(rows) for tree in TREES for rows in sharers_of(tree).values()}
    assert {1, 2, 3, 4} <= numbers
    assert any(not leaf.is_sampled for tree in TREES for leaf in tree.leaves())


# Attribution


def own_advantages(trees: Sequence[RolloutTree], centred: bool = True) -> list[list[float]]:
    """Rewards, less their group's mean where `centred`."""
    found = []
    for tree in trees:
        rewards = [leaf.reward.value for leaf in tree.leaves() if leaf.reward is not None]
        found.append([r - sum(rewards) / len(rewards) * centred for r in rewards])
    return found


def own_loss(mode: str, aggregation: str, ratio: Callable[[Node, int], float]) -> tuple[float, float]:
    """Minus the clipped surrogate of every distinct token, summed with its weight, and the denominator."""
    total, denominator = 0.0, 0.0
    for tree, advantages in zip(TREES, own_advantages(TREES), strict=True):
        sharers = sharers_of(tree)
        held = {i: (1 / len(rows) if mode == "once" else 1.0) for i, rows in sharers.items()}
        lengths = [sum(held[n.id] * len(n.token_ids) for n in tree.path(leaf) if n.is_sampled) for leaf in tree.leaves()]
        weights = [1 / length if aggregation == "sequence_mean" and length else 1.0 for length in lengths]
        if aggregation == "token_mean":
            copies = [len(tree.nodes[i].token_ids) * (1 if mode == "once" else len(rows)) for i, rows in sharers.items()]
            denominator += sum(copies)
        else:
            denominator += len(lengths) * (MAX_TOKENS if aggregation == "constant" else 1)
        for i, rows in sharers.items():
            weight = sum(weights[row] for row in rows) * held[i]
            mean = sum(advantages[row] for row in rows) / len(rows)
            for offset in range(len(tree.nodes[i].token_ids)):
                rho = ratio(tree.nodes[i], offset)
                total -= weight * min(rho * mean, min(max(rho, 0.8), 1.2) * mean)
    return total, denominator


@pytest.mark.parametrize(("mode", "aggregation"), [*product(("hard", "once"), AGGREGATIONS)])
def test_a_shared_token_has_the_plain_mean_and_counts_d_times_or_once(mode: str, aggregation: str) -> None:
    def ratio(node: Node, offset: int) -> float:
        return 1 + 0.4 * torch.sin(torch.tensor(7.0 * node.token_ids[offset] + offset)).item()

    advantage = OutcomeAdvantageConfig(scale="none", attribution=mode)  # pyright: ignore[reportArgumentType]
    loss = PpoClipLossConfig(aggregation=aggregation)  # pyright: ignore[reportArgumentType]
    credits = assign_credit(TREES, advantage, loss, max_tokens=MAX_TOKENS)
    (batch,) = make_policy_batches(TREES, credits, BatchingConfig(max_tokens=10**6))
    ratios = [ratio(n, i) for t in TREES for n in in_order(t) for i in range(len(n.token_ids))]
    sums = batch.token_credit()
    found = ppo_clip_loss(torch.tensor(ratios, dtype=torch.float64).log(), sums.positive, sums.negative).loss.sum()
    expected, denominator = own_loss(mode, aggregation, ratio)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    assert total_denominator(credit.denominator for credit in credits) == pytest.approx(denominator, rel=1e-12)


def in_order(tree: RolloutTree) -> list[Node]:
    """Its sampled nodes in the order of a batch."""
    paths = [tree.path(leaf) for leaf in tree.leaves()]
    return [node for node in {node.id: node for path in paths for node in path}.values() if node.is_sampled]


def test_shares_are_the_weights_of_inverse_branching() -> None:
    """Those of the leaves below a node add up to its own."""
    credits = assign_credit(TREES, OutcomeAdvantageConfig(leaf_weighting="inverse_branching"), PpoClipLossConfig())
    for tree, credit in zip(TREES, credits, strict=True):
        shares = node_shares(tree)
        for i, rows in sharers_of(tree).items():
            assert sum(float(credit.leaf_weights[row]) for row in rows) == pytest.approx(shares[i], rel=1e-12)


# The KL still to come


def costs_of(trees: Sequence[RolloutTree]) -> list[list[torch.Tensor]]:
    """A cost per sampled token, of either sign, by tree and node id."""
    generator = torch.Generator().manual_seed(3)
    sizes = [[len(node.token_ids) * node.is_sampled for node in tree.nodes] for tree in trees]
    return [[torch.randn(size, generator=generator, dtype=torch.float64) / 10 for size in of_tree] for of_tree in sizes]


def own_advantages_of_tokens(costs: Sequence[Sequence[torch.Tensor]], config: OutcomeAdvantageConfig) -> list[list[float]]:
    """Per leaf of all trees, reward less baseline and the costs of this and the later tokens, one token after the other."""
    found: list[list[float]] = []
    for tree, of_tree, own in zip(TREES, costs, own_advantages(TREES, config.baseline == "group_mean"), strict=True):
        for leaf, value in zip(tree.leaves(), own, strict=True):
            paid = [float(c) for node in tree.path(leaf) if node.is_sampled for c in of_tree[node.id]]
            found.append([value - sum(paid[i:]) for i in range(len(paid))])
    if config.scale == "batch_std":
        everything = [a for leaf in found for a in leaf]
        centre, spread = mean(everything), stdev(everything)
        found = [[(a - centre) / spread for a in leaf] for leaf in found]
    return found


KL_CASES = [
    OutcomeAdvantageConfig(baseline="none", scale="batch_std", epsilon=1e-30),
    OutcomeAdvantageConfig(baseline="group_mean", scale="none"),
]


@pytest.mark.parametrize("config", KL_CASES)
def test_tokens_pay_the_kl_still_to_come_leaf_by_leaf(config: OutcomeAdvantageConfig) -> None:
    """On shared tokens it differs from leaf to leaf; tokens of results pay nothing."""
    costs = costs_of(TREES)
    credits = assign_credit(TREES, config, PpoClipLossConfig(), token_costs=costs)
    rows = [row for tree, credit in zip(TREES, credits, strict=True) for row in leaf_rows(tree, credit)]
    for row, expected in zip(rows, own_advantages_of_tokens(costs, config), strict=True):
        sampled = [a for a, is_sampled in zip(row.advantages, row.completion_mask, strict=True) if is_sampled]
        assert sampled == pytest.approx(expected, rel=1e-10, abs=1e-12)
        assert not any(a for a, is_sampled in zip(row.advantages, row.completion_mask, strict=True) if not is_sampled)
    assert not any(credit.is_zero for credit in credits)


@pytest.mark.parametrize("config", [config.model_copy(update=more) for config in KL_CASES for more in (
    {}, {"attribution": "hard"}, {"attribution": "once"}, {"attribution": "mixed"}, {"entropy_scale": 2.0},
    {"leaf_weighting": "inverse_branching"},
)])  # fmt: skip
@pytest.mark.parametrize("max_tokens", [10**6, 60])
def test_the_packed_loss_is_that_of_the_rows(config: OutcomeAdvantageConfig, max_tokens: int) -> None:
    """With the costs of tokens, at ratios of their own, however trees are cut; some entropy factors are negative."""
    credits = assign_credit(
        TREES, config, PpoClipLossConfig(aggregation="sequence_mean"), token_costs=costs_of(TREES), max_tokens=MAX_TOKENS
    )

    def ratio(token: int) -> float:
        return 1 + 0.4 * math.sin(7.0 * token)

    found = 0.0
    for batch in make_policy_batches(TREES, credits, BatchingConfig(max_tokens=max_tokens)):
        sums = batch.to(torch.device("cpu")).token_credit()
        log_ratio = torch.tensor([ratio(int(i)) for i in batch.packed.targets], dtype=torch.float64).log()
        found += float(ppo_clip_loss(log_ratio, sums.positive, sums.negative).loss.sum())
    expected = 0.0
    for tree, credit in zip(TREES, credits, strict=True):
        for row in leaf_rows(tree, credit):
            for token, advantage in zip(row.completion_ids, row.advantages, strict=True):
                rho = ratio(token)
                expected -= row.weight * min(rho * advantage, min(max(rho, 0.8), 1.2) * advantage)
    assert found == pytest.approx(expected, rel=1e-9)
