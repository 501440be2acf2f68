"""Turns the rewards of scored trees into the advantage of each trajectory on its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arpo.algorithms.advantages import (
    appo_advantages,
    costs_to_go,
    entropy_scale,
    group_mean_baseline,
    group_std,
    leave_one_out_baseline,
    normalize_batch,
    step_group_advantages,
    step_returns,
    subtree_out_baseline,
    tree_grpo_advantages,
    treerl_advantages,
)
from arpo.algorithms.aggregation import leaf_weights
from arpo.algorithms.attribution import attribute, leaf_parts
from arpo.batching.policy_batch import TreeCredit
from arpo.errors import DataError
from arpo.training.algorithm_config import (
    AdvantageConfig,
    AppoAdvantageConfig,
    GigpoAdvantageConfig,
    LossConfig,
    TreeGrpoAdvantageConfig,
    TreerlAdvantageConfig,
)
from arpo.tree import Node, NodeCredit, RolloutTree


def assign_credit(
    trees: Sequence[RolloutTree],
    advantage: AdvantageConfig,
    loss: LossConfig,
    *,
    rewards: Sequence[Tensor] | None = None,
    token_costs: Sequence[Sequence[Tensor]] | None = None,
    max_tokens: int | None = None,
) -> list[TreeCredit]:
    """The credit of all trees of a step, each with its part of the denominator of the loss.

    Baseline and scale make advantages per leaf and node; costs of tokens are taken off them; attribution decides the advantage
    of a leaf on shared tokens; aggregation weighs the leaves. Baselines and `group_std`, which compare rewards, come before the
    costs, `batch_std` after them, as in REINFORCE++.

    Args:
        trees: All of the step: `batch_std` and `entropy_scale` compare across trees.
        advantage: How rewards become advantages.
        loss: Its aggregation is used.
        rewards: Per tree, the shaped reward [L] of each leaf; None: `leaf.reward.value`.
        token_costs: Per tree and node id, the cost [T] of each sampled token, as its KL to the reference; it is taken off the
            advantage of the token and of those before it on every path. A shared token's costs still to come differ from leaf
            to leaf. None: tokens cost nothing.
        max_tokens: Most tokens of a trajectory, for aggregation `constant`.

    Raises:
        DataError: `entropy_scale` is on and a tree holds no entropies.
        ValueError: aggregation `constant` without `max_tokens`; a leaf was not scored.

    Example: rewards 1 and 0, completions of 2 and 6 tokens, `token_mean`: advantages 0.707 and -0.707, weights 1 and 1,
    denominator 8.
    """
    groups = [_Group.of(tree, advantage) for tree in trees]
    if rewards is None:
        rewards = [leaf_rewards(tree) for tree in trees]
    advantages = [_advantages(group, r, advantage) for group, r in zip(groups, rewards, strict=True)]
    offsets: Sequence[Sequence[Tensor] | None] = [None] * len(groups)
    if token_costs is not None:
        advantages = [a - _costs_to_go(g, costs) for g, a, costs in zip(groups, advantages, token_costs, strict=True)]
        offsets = [[node.cumsum(0) - node for node in costs] for costs in token_costs]  # what is paid within the node before
    if advantage.scale == "batch_std":
        advantages, offsets = _normalize_over_tokens(groups, advantages, offsets, advantage.epsilon)
    factors = _entropy_factors(trees, advantage) if advantage.entropy_scale else [None] * len(groups)
    credits: list[TreeCredit] = []
    for group, of_leaves, offset, factor in zip(groups, advantages, offsets, factors, strict=True):
        parts = leaf_parts(group.below) if advantage.attribution == "once" else None
        weight, denominator = _weigh(group, loss, max_tokens, parts)
        shared = attribute(of_leaves, weight, group.below, advantage.attribution, advantage.mix)
        has_advantage = bool((shared * (group.num_tokens > 0) * (weight > 0)[:, None]).any())
        is_zero = not has_advantage and not any(bool(o.any()) for o in offset or ())
        credits.append(TreeCredit(weight, shared, denominator, factor, is_zero, parts, offset))
    return credits


def node_credit(tree: RolloutTree, credit: TreeCredit) -> NodeCredit:
    """The weight and the weighted mean advantage below every node, over its tokens, for viewers."""
    passing = credit.weights * _below(tree)
    totals = passing.sum(dim=0)
    means = (passing * credit.advantages).sum(dim=0) / totals.masked_fill(totals == 0, 1.0)
    if credit.token_offset is not None:
        added = [0.0 if offset is None or not len(offset) else float(offset.mean()) for offset in credit.token_offset]
        means = means + torch.tensor(added, dtype=torch.float64)
    return NodeCredit(weights=totals.tolist(), advantages=means.tolist())


def leaf_rewards(tree: RolloutTree) -> Tensor:
    """The rewards [L] of a scored tree's leaves, float64.

    Raises:
        ValueError: a leaf was not scored.
    """
    leaves = tree.leaves()
    rewards = [leaf.reward.value for leaf in leaves if leaf.reward is not None]
    if len(rewards) < len(leaves):
        missing = next(leaf.id for leaf in leaves if leaf.reward is None)
        raise ValueError(f"leaf {missing} of task {tree.task.id!r} has no reward; call score_tree first")
    return torch.tensor(rewards, dtype=torch.float64)


@dataclass(slots=True, frozen=True)
class _Group:
    """The leaves of one tree as rows, its nodes as columns."""

    tree: RolloutTree
    leaves: list[Node]
    below: Tensor
    """[L, n] True where leaf i passes node n."""
    num_tokens: Tensor
    """[n] sampled tokens of each node; 0 for prompts and observations."""
    shares: Tensor | None
    """[L] of `inverse_branching`; with APPO 1 from the prompt and 0 for branches; None: all 1."""

    @classmethod
    def of(cls, tree: RolloutTree, advantage: AdvantageConfig) -> "_Group":
        leaves, below = tree.leaves(), _below(tree)
        num_tokens = torch.tensor([len(node.token_ids) * node.is_sampled for node in tree.nodes])
        shares = _inverse_branching_shares(tree, below) if advantage.leaf_weighting == "inverse_branching" else None
        if isinstance(advantage, AppoAdvantageConfig):
            shares = (~_is_branch(tree)).double()
        return cls(tree, leaves, below, num_tokens, shares)

    @property
    def lengths(self) -> Tensor:
        """[L] sampled tokens of each trajectory."""
        return self.below.long() @ self.num_tokens

    @property
    def passed(self) -> Tensor:
        """[L, n] True where leaf i passes node n and n was sampled."""
        return self.below & (self.num_tokens > 0)


def _below(tree: RolloutTree) -> Tensor:
    """[L, n] True where leaf i passes node n."""
    leaves = tree.leaves()
    below = torch.zeros(len(leaves), len(tree.nodes), dtype=torch.bool)
    for row, leaf in enumerate(leaves):
        below[row, [node.id for node in tree.path(leaf)]] = True
    return below


def _is_branch(tree: RolloutTree) -> Tensor:
    """[L] True where a leaf's path began at a fork, False where it began at the prompt."""
    return torch.tensor([any(node.is_branch for node in tree.path(leaf)) for leaf in tree.leaves()], dtype=torch.bool)


def _trees(group: _Group) -> Tensor:
    """[L] the initial trajectory that each leaf's path grew from; a branch at the prompt follows its own among the siblings."""
    first = group.tree.children[0]
    starts = torch.tensor([not group.tree.nodes[child].is_branch for child in first])
    return starts.cumsum(0)[group.below[:, first].int().argmax(dim=1)]


def _inverse_branching_shares(tree: RolloutTree, below: Tensor) -> Tensor:
    """1 per child of the prompt, divided evenly at every later fork."""
    num_children = [1 if node.parent is None else max(1, len(tree.children[node.id])) for node in tree.nodes]
    part = 1 / torch.tensor(num_children, dtype=torch.float64)
    return torch.where(below, part, 1.0).prod(dim=1)


def _weigh(group: _Group, loss: LossConfig, max_tokens: int | None, parts: Tensor | None) -> tuple[Tensor, float]:
    """Weights [L] of a tree's leaves, and their part of the denominator; `parts` [n]: what a leaf holds of each node."""
    shares = None if group.shares is None else group.shares.tolist()
    lengths = group.lengths if parts is None else group.below.double() @ (parts * group.num_tokens)
    weights, denominator = leaf_weights(lengths.tolist(), loss.aggregation, shares, max_tokens=max_tokens)
    return torch.tensor(weights, dtype=torch.float64), denominator


def _advantages(group: _Group, rewards: Tensor, config: AdvantageConfig) -> Tensor:
    """[L, n] advantage of each leaf on the nodes of its path, before attribution."""
    options = {"normalize_std": config.scale == "group_std", "epsilon": config.epsilon}
    if isinstance(config, TreeGrpoAdvantageConfig):
        own_tree = _trees(group)
        return tree_grpo_advantages(rewards, own_tree, group.shares, **options)[:, None].expand(group.below.shape)
    if isinstance(config, TreerlAdvantageConfig):
        return treerl_advantages(rewards, group.below, group.shares, **options).expand(group.below.shape)
    if isinstance(config, AppoAdvantageConfig):
        return appo_advantages(rewards, _is_branch(group.tree), **options)[:, None].expand(group.below.shape)
    centred = _compare(group, rewards, config)
    if config.scale == "group_std":
        std = group_std(rewards, group.shares)
        centred = torch.where(std > 0, centred / (std + config.epsilon), 0.0)
    if isinstance(config, GigpoAdvantageConfig):
        return centred + config.step_weight * _step_advantages(group, rewards, config.discount, options)
    return centred


def _compare(group: _Group, rewards: Tensor, config: AdvantageConfig) -> Tensor:
    """[L, n] rewards less the baseline."""
    on_nodes = rewards[:, None].expand(group.below.shape)
    if config.baseline == "group_mean":
        return on_nodes - group_mean_baseline(rewards, group.shares)[:, None]
    if config.baseline == "leave_one_out":
        return on_nodes - leave_one_out_baseline(rewards)[:, None]
    if config.baseline == "subtree_out":
        return on_nodes - subtree_out_baseline(rewards, group.shares, group.below)
    return on_nodes


def _step_advantages(group: _Group, rewards: Tensor, discount: float, options: dict[str, bool | float]) -> Tensor:
    """[L, n] GiGPO's advantage of the step each node belongs to; a step is what a leaf samples between two observations."""
    situations: dict[tuple[int, ...], int] = {}
    rows: list[int] = []
    left: list[int] = []
    situation: list[int] = []
    nodes: list[list[int]] = []
    for row, leaf in enumerate(group.leaves):
        steps = _steps(group.tree.path(leaf))
        for index, (observed, members) in enumerate(steps):
            rows.append(row)
            left.append(len(steps) - 1 - index)
            situation.append(situations.setdefault(observed, len(situations)))
            nodes.append(members)
    returns = step_returns(rewards[rows], torch.tensor(left), discount=discount)
    shares = None if group.shares is None else group.shares[rows]
    values = step_group_advantages(returns, torch.tensor(situation), shares, **options)  # pyright: ignore[reportArgumentType]
    advantages = torch.zeros(group.below.shape, dtype=torch.float64)
    for row, members, value in zip(rows, nodes, values, strict=True):
        advantages[row, members] = value
    return advantages


def _steps(path: Sequence[Node]) -> list[tuple[tuple[int, ...], list[int]]]:
    """The steps of a path: tokens of the last observation before it (none: the prompt), ids of its sampled nodes."""
    steps: list[tuple[tuple[int, ...], list[int]]] = []
    observed: tuple[int, ...] = ()
    is_new = True
    for node in path[1:]:
        if not node.is_sampled:
            observed, is_new = tuple(node.token_ids), True
        elif is_new:
            steps.append((observed, [node.id]))
            is_new = False
        else:
            steps[-1][1].append(node.id)
    return steps


def _costs_to_go(group: _Group, costs: Sequence[Tensor]) -> Tensor:
    """[L, n] costs still to come for each leaf at the first token of each node of its path."""
    found = torch.zeros(group.below.shape, dtype=torch.float64)
    for row, leaf in enumerate(group.leaves):
        path = [node.id for node in group.tree.path(leaf)]
        lengths = torch.tensor([len(costs[i]) for i in path])
        to_go = torch.cat([costs_to_go(torch.cat([costs[i] for i in path]).double()), torch.zeros(1, dtype=torch.float64)])
        found[row, path] = to_go[lengths.cumsum(0) - lengths]
    return found


_Offsets = Sequence[Sequence[Tensor] | None]


def _normalize_over_tokens(
    groups: Sequence[_Group], advantages: Sequence[Tensor], offsets: _Offsets, epsilon: float
) -> tuple[list[Tensor], _Offsets]:
    """Advantages centred and scaled by all trajectories' sampled tokens; a token shared by d leaves counts in each.

    Advantages are those of each node's first token, to which the offsets [T] of its tokens are added.
    """
    counts = torch.cat([g.num_tokens.expand(g.below.shape)[g.passed] for g in groups])
    rows = torch.cat([a[g.passed] for g, a in zip(groups, advantages, strict=True)]).repeat_interleave(counts)
    shares = [g.shares[:, None].expand(g.below.shape)[g.passed] for g in groups if g.shares is not None]
    weights = torch.cat(shares).repeat_interleave(counts) if shares else None
    added = [offset[n] for g, offset in zip(groups, offsets, strict=True) if offset for n in g.passed.nonzero()[:, 1].tolist()]
    if added:
        rows = rows + torch.cat(added)
        divisor = group_std(rows, weights) + epsilon
        offsets = [[of_node / divisor for of_node in offset or ()] for offset in offsets]
    normalized = normalize_batch(rows, weights, epsilon=epsilon)
    pieces = normalized[counts.cumsum(0) - counts].split([int(g.passed.sum()) for g in groups])
    normalized_advantages = [
        torch.zeros(g.below.shape, dtype=torch.float64).masked_scatter(g.passed, piece)
        for g, piece in zip(groups, pieces, strict=True)
    ]
    return normalized_advantages, offsets


def _entropy_factors(trees: Sequence[RolloutTree], config: AdvantageConfig) -> list[list[Tensor | None]]:
    """Per tree and node, the factor [T] on each sampled token's advantage."""
    a = config.entropy_scale
    for tree in trees:
        for node in tree.nodes:
            if node.is_sampled and len(node.entropies or []) != len(node.token_ids):
                raise DataError(
                    f"advantage.entropy_scale = {a}: node {node.id} of task {tree.task.id!r} has {len(node.token_ids)} tokens "
                    f"and {len(node.entropies or [])} entropies; use an engine that reports them, or set "
                    f"advantage.entropy_scale = 0"
                )
    sampled = [node for tree in trees for node in tree.nodes if node.is_sampled]
    entropies = torch.tensor([h for node in sampled for h in node.entropies or []], dtype=torch.float64)
    factors = entropy_scale(entropies, a, epsilon=config.epsilon)
    pieces = iter(factors.split([len(node.token_ids) for node in sampled]))
    return [[next(pieces) if node.is_sampled else None for node in tree.nodes] for tree in trees]
