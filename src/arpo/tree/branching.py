"""Records of what branching did on a finished tree: one per tool result, one per fork."""

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from arpo.tree.entropy import tool_name
from arpo.tree.node import Node, NodeKind
from arpo.tree.shares import node_shares
from arpo.tree.tree import RolloutTree

Fate = Literal["branched", "declined", "no_budget", "topup", "not_asked"]
"""What became of a tool result.

`declined`: the rule requested no path. `no_budget`: no leaf was missing any more, or other requests of the turn took the last
ones. `topup`: it lies on a fresh trajectory that fills the group, about which the rule was not asked. `not_asked`: it was not
measured, or the rule was asked about no result of the tree, as it does not branch after results or no leaf was ever missing.
"""


@dataclass(slots=True, frozen=True, kw_only=True)
class ForkRecord:
    """A place where paths forked, and what they earned.

    Example: the original ends in one leaf of reward 0; the branch forks again, into leaves of reward 1 and 0.5: original_reward
    0, branch_reward 0.75, reward_gain 0.75.
    """

    node: int
    """Id of the node after which the paths differ."""
    turn: int
    """Observations on the path to there."""
    tool: str | None
    """The tool whose result the node shows; None: the fork is inside a completion."""
    num_branches: int
    """New paths, the original excluded."""
    original_reward: float | None
    """Mean reward of the leaves below the original continuation; None when none of them has a reward."""
    branch_reward: float | None
    """Mean reward of the leaves below the branches; None when none of them has a reward."""
    is_mixed: bool | None
    """Whether leaves below, of original and branches, are right and others wrong; None when fewer than two were graded."""

    @property
    def reward_gain(self) -> float | None:
        """`branch_reward` minus `original_reward`; None when one of them is None."""
        if self.branch_reward is None or self.original_reward is None:
            return None
        return self.branch_reward - self.original_reward


@dataclass(slots=True, frozen=True, kw_only=True)
class ResultRecord:
    """A tool result that the policy went on from."""

    node: int
    """Id of the observation."""
    turn: int
    """Observations on the path, this one included."""
    tool: str
    """The tool that was called, of several the first; `other` when no call was parsed."""
    share: float
    """How often it counts beside results of independent trajectories (`node_shares`)."""
    initial_entropy: float | None
    """Mean entropy of the window at the start of the path, nats; None when it was not measured."""
    entropy_after: float | None
    """Mean entropy of the window after the result, nats, on the original continuation; None when it was not measured."""
    entropy_delta: float | None
    """Normalised change, as the branch rule counts it; None when it was not measured."""
    fate: Fate
    """What became of the result."""
    fork: ForkRecord | None
    """The fork there; None unless `fate` is `branched`."""

    @property
    def is_rise(self) -> bool:
        """Whether the result raised the entropy: `entropy_delta` > 0."""
        return self.entropy_delta is not None and self.entropy_delta > 0


def result_records(tree: RolloutTree) -> list[ResultRecord]:
    """The tool results of a finished tree, in depth-first order; one that no completion followed is left out."""
    forks = {fork.node: fork for fork in fork_records(tree)}
    is_asked = any(n.branches_requested is not None for n in tree.nodes)
    topups, shares = set(_from_prompt(tree)[1]), node_shares(tree)
    records: list[ResultRecord] = []
    for node in tree.depth_first():
        if node.kind is not NodeKind.OBSERVATION or not tree.children[node.id]:
            continue
        path = tree.path(node)
        records.append(
            ResultRecord(
                node=node.id,
                turn=node.turn,
                tool=tool_name(tree, node),
                share=shares[node.id],
                initial_entropy=_window_mean(tree, [n for n in path if n.is_sampled and n.turn == 0]),
                entropy_after=_window_mean(tree, _original_turn(tree, tree.children[node.id][0])),
                entropy_delta=node.entropy_delta,
                fate=_fate(node, node.id in forks, path[1].id in topups, is_asked),
                fork=forks.get(node.id),
            )
        )
    return records


def fork_records(tree: RolloutTree) -> list[ForkRecord]:
    """The forks of a finished tree in depth-first order, those inside completions included."""
    outcomes = _outcomes(tree)
    return [
        _fork_record(tree, node, outcomes)
        for node in tree.depth_first()
        if any(tree.nodes[child].is_branch for child in tree.children[node.id])
    ]


def initial_entropies(tree: RolloutTree) -> list[float]:
    """Mean entropy of the window at the start of each trajectory from the prompt, top-ups included, nats.

    A trajectory counts once, however many branches it has: the mean is that of independent trajectories. Empty when the tree
    does not say how long the window is, or has no entropies.
    """
    means = [_window_mean(tree, _original_turn(tree, child)) for child in tree.children[0]]
    return [mean for mean in means if mean is not None]


@dataclass(slots=True, frozen=True)
class _Outcome:
    """The leaves below a node."""

    rewards: list[float]
    grades: list[bool]


def _outcomes(tree: RolloutTree) -> dict[int, _Outcome]:
    """Node id -> rewards and grades of the leaves below it."""
    found = {node.id: _Outcome([], []) for node in tree.nodes}
    for leaf in tree.leaves():
        for node in tree.path(leaf):
            if leaf.reward is not None:
                found[node.id].rewards.append(leaf.reward.value)
            if leaf.is_correct is not None:
                found[node.id].grades.append(leaf.is_correct)
    return found


def _fork_record(tree: RolloutTree, node: Node, outcomes: dict[int, _Outcome]) -> ForkRecord:
    children = [tree.nodes[child] for child in tree.children[node.id]]
    branches = [child for child in children if child.is_branch]
    original_rewards = [r for child in children if not child.is_branch for r in outcomes[child.id].rewards]
    branch_rewards = [r for child in branches for r in outcomes[child.id].rewards]
    grades = outcomes[node.id].grades
    return ForkRecord(
        node=node.id,
        turn=node.turn,
        tool=tool_name(tree, node) if node.kind is NodeKind.OBSERVATION else None,
        num_branches=len(branches),
        original_reward=fmean(original_rewards) if original_rewards else None,
        branch_reward=fmean(branch_rewards) if branch_rewards else None,
        is_mixed=len(set(grades)) > 1 if len(grades) > 1 else None,
    )


def _fate(node: Node, is_fork: bool, is_topup: bool, is_asked: bool) -> Fate:
    if is_fork:
        return "branched"
    if node.branches_requested is not None:
        return "no_budget" if node.branches_requested else "declined"
    if is_topup:
        return "topup"
    return "no_budget" if is_asked and node.entropy_delta is not None else "not_asked"


def _from_prompt(tree: RolloutTree) -> tuple[list[int], list[int]]:
    """Ids of the first nodes of the planned trajectories, and of the top-ups."""
    children = [child for child in tree.children[0] if not tree.nodes[child].is_branch]
    num_initial = tree.settings.get("num_initial", len(children))
    return children[:num_initial], children[num_initial:]


def _original_turn(tree: RolloutTree, first: int) -> list[Node]:
    """The completion that begins with node `first`: several nodes where forks cut it, of which the original goes on."""
    parts: list[Node] = []
    next_id: int | None = first
    while next_id is not None and tree.nodes[next_id].is_sampled:
        parts.append(tree.nodes[next_id])
        next_id = next(iter(tree.children[next_id]), None)
    return parts


def _window_mean(tree: RolloutTree, parts: list[Node]) -> float | None:
    """Mean entropy of the first tokens of a completion, as many as the tree's window; as its estimator measures them."""
    window = tree.settings.get("entropy_window", 0)
    if tree.settings.get("entropy_estimator") == "surprisal":
        drawn = [-x for node in parts for x in node.logprobs or []][:window]
    else:
        drawn = [x for node in parts for x in node.entropies or []][:window]
    return fmean(drawn) if drawn else None
