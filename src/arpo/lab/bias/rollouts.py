"""Samples trees on a decision tree with the real group, paths and branch rules; only policy and tool are tables."""

from collections import defaultdict, deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, cast

from arpo.lab.bias.chance import Chance, LazyUniform, Sampled, outcomes
from arpo.lab.bias.decision_tree import DecisionTree
from arpo.lab.bias.table_agent import TASK, Draw, LetterProtocol, LetterTokenizer, TableEngine, TableEnvironment
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.config import LimitsConfig, RolloutConfig
from arpo.rollout.environment import Environment
from arpo.rollout.group import Group
from arpo.rollout.rules import BranchRule, CompletionView, ForkRequest, Opportunity, PastGroups, Probe, build_rule
from arpo.tree import RolloutTree
from arpo.types import Reward


@dataclass(slots=True, frozen=True, kw_only=True)
class Growth:
    """One way to sample a group."""

    name: str
    config: RolloutConfig
    tops_up: bool = True
    """True: fresh samples fill missing leaves, as in the runner. False: groups stay small where paths end early."""


def all_trees(tree: DecisionTree, growth: Growth) -> tuple[list[RolloutTree], list[float]]:
    """Every possible group, scored, and its probability; groups that differ only in the order of siblings are one."""
    trees: dict[str, RolloutTree] = {}
    probabilities: defaultdict[str, float] = defaultdict(float)
    for probability, grown in outcomes(lambda chance: grow(tree, growth, chance)):
        names = _names(grown)
        if names[0] not in trees:
            trees[names[0]] = _sorted(grown, names)
        probabilities[names[0]] += probability
    return list(trees.values()), list(probabilities.values())


def sample_trees(tree: DecisionTree, growth: Growth, count: int, seed: int) -> Iterator[RolloutTree]:
    """Sampled groups, scored, siblings in a fixed order."""
    chance = Sampled(seed)
    for _ in range(count):
        grown = grow(tree, growth, chance)
        yield _sorted(grown, _names(grown))


def grow(tree: DecisionTree, growth: Growth, chance: Chance) -> RolloutTree:
    """One scored group; `chance` makes every choice."""
    return run_group(tree, growth, lambda probabilities, seed, position: chance.choose(probabilities), chance=chance)


def run_group(tree: DecisionTree, growth: Growth, draw: Draw, *, seed: int = 0, chance: Chance | None = None) -> RolloutTree:
    """One group, scored.

    Nothing waits here, so each path runs to its end without an event loop; the group's logical time makes the order immaterial.

    Args:
        tree: Task and policy.
        growth: Rule and sizes.
        draw: Draws the tokens.
        seed: Names the streams, as in `RolloutRunner.sample`.
        chance: Makes the draws of the branch rule; None: the group's seeded generators make them.
    """
    rule = build_rule(growth.config.rule)
    waiting: deque[Coroutine[None, None, None]] = deque()
    finished: list[RolloutTree] = []
    group = Group(
        table_agent(tree, draw), growth.config, rule if chance is None else _RuleOfChance(rule, chance), TASK,
        seed=seed, past=PastGroups(), spawn=waiting.append, on_finished=finished.append, tops_up=growth.tops_up,
    )  # fmt: skip
    group.start()
    while waiting:
        _run(waiting.popleft())
    score(tree, finished[0])
    return finished[0]


def table_agent(tree: DecisionTree, draw: Draw, environment: Environment | None = None) -> Agent:
    """The agent on a decision tree; `environment` None: one that needs no event loop."""
    return Agent(
        engine=cast(Any, TableEngine(tree, draw)),
        tokenizer=cast(PolicyTokenizer, LetterTokenizer(tree)),
        protocol=LetterProtocol(tree),
        environment=environment or TableEnvironment(),
        limits=LimitsConfig(),
    )


def score(tree: DecisionTree, grown: RolloutTree) -> None:
    """Write the decision tree's reward on every leaf."""
    for leaf in grown.leaves():
        text = "".join(tree.alphabet[i] for node in grown.path(leaf) for i in node.token_ids)
        leaf.reward = Reward(value=tree.rewards[text])


def _names(grown: RolloutTree) -> list[str]:
    """Per node, a text of its subtree; equal for subtrees that differ only in the order of siblings."""
    names = [""] * len(grown.nodes)
    for node in reversed(grown.nodes):
        below = sorted(names[child] for child in grown.children[node.id])
        names[node.id] = f"{''.join(map(chr, node.token_ids))}({','.join(below)})"
    return names


def _sorted(grown: RolloutTree, names: Sequence[str]) -> RolloutTree:
    """The tree with siblings in the order of their names: credit does not depend on it, and many trees become equal."""
    return grown.renumbered(lambda node: tuple(map(ord, names[node.id])))


def _run(coroutine: Coroutine[None, None, None]) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("a path on a decision tree waited for something")


class _RuleOfChance(BranchRule):
    """A rule with random draws from the study's chance, which can enumerate them too."""

    def __init__(self, rule: BranchRule, chance: Chance):
        self._rule = rule
        self._uniforms = cast(Random, _Uniforms(chance))
        self.max_branches = rule.max_branches
        self.forks_inside = rule.forks_inside

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None, past: PastGroups) -> int | None:
        return self._rule.plan(group_size, num_initial, probe, past)

    def score(self, opportunity: Opportunity) -> float | None:
        return self._rule.score(opportunity)

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        return self._rule.decide(opportunities, self._uniforms)

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        return self._rule.decide_inside(completions, num_missing, self._uniforms)


class _Uniforms:
    """Stands in for `random.Random`."""

    def __init__(self, chance: Chance):
        self.random = partial(LazyUniform, chance)
