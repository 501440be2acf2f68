"""Credit and loss of random trees equal plain computations that know no packing: token by token, or leaf by leaf.

The trees fork at prompts, at results and inside completions, at any depth; some paths end with a result.
"""

from collections.abc import Callable, Sequence
from itertools import product
from random import Random

import pytest
import torch

from arpo.algorithms.aggregation import total_denominator
from arpo.algorithms.losses import ppo_clip_loss
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import make_policy_batches
from arpo.training.algorithm_config import OutcomeAdvantageConfig, PpoClipLossConfig
from arpo.training.credit import assign_credit
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.shares import node_shares
from arpo.types import Message, Reward, Task

AGGREGATIONS = ("token_mean", "sequence_mean", "constant")
MAX_TOKENS = 50


def random_tree(seed: int) -> RolloutTree:
    """One to three initial trajectories, and as many forks again at any sampled token or result."""
    random = Random(seed)
    task = Task(id=f"t{seed}", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, [random.randrange(90) for _ in range(random.randint(1, 4))])

    def sample(parent: Node) -> Node:
        ids = [random.randrange(90) for _ in range(random.randint(1, 6))]
        numbers = {"logprobs": [-random.random() for _ in ids], "entropies": [random.random() for _ in ids]}
        return tree.append(parent, NodeKind.COMPLETION, ids, **numbers)

    def go_on(node: Node) -> None:
        for _ in range(random.randint(0, 2)):
            node = tree.append(sample(node), NodeKind.OBSERVATION, [random.randrange(90) for _ in range(random.randint(1, 3))])
        if node.is_sampled or random.random() < 0.8:
            sample(node)

    for _ in range(random.randint(1, 3)):
        go_on(sample(tree.root))
    for _ in range(random.randint(1, 5)):
        node = random.choice(tree.nodes)
        if node.is_sampled and len(node.token_ids) > 1:
            node = tree.split(node, random.randint(1, len(node.token_ids) - 1))
        if tree.children[node.id]:
            go_on(sample(node))
    for leaf in tree.leaves():
        leaf.reward = Reward(value=random.choice([-1.0, 0.0, 0.3, 1.0]))
    return tree


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


def own_advantages(trees: Sequence[RolloutTree]) -> list[list[float]]:
    """Rewards less their group's mean."""
    found = []
    for tree in trees:
        rewards = [leaf.reward.value for leaf in tree.leaves() if leaf.reward is not None]
        found.append([r - sum(rewards) / len(rewards) for r in rewards])
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
