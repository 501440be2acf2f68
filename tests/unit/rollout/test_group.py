"""Every rule grows exactly M leaves, whatever the model writes and however long tools take; forks inside completions work."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, floor
from random import Random
from statistics import fmean
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.errors import ConfigError
from arpo.inference.scripted import ScriptedEngine
from arpo.inference.token_prefix import TokenPrefix
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.config import (
    AepoReleasedRuleConfig,
    AepoRuleConfig,
    AppoRuleConfig,
    ArpoReleasedRuleConfig,
    ArpoRuleConfig,
    EptreeRuleConfig,
    LimitsConfig,
    MixedOutcomesRuleConfig,
    NoBranchingConfig,
    RandomNodeRuleConfig,
    RandomRuleConfig,
    RandomTokenRuleConfig,
    RolloutConfig,
    ThresholdRuleConfig,
    TokenEntropyRuleConfig,
)
from arpo.rollout.entropy import entropy_delta
from arpo.rollout.environment import Environment, Session
from arpo.rollout.path import turn_completions
from arpo.rollout.rules import BRANCH_RULES, PastGroups, build_rule
from arpo.rollout.runner import RolloutRunner
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.serialize import tree_from_dict, tree_to_dict
from arpo.types import Completion, Message, SamplingParams, Step, StopReason, Task, Turn

RULES = [
    NoBranchingConfig(),
    ArpoRuleConfig(),
    ArpoRuleConfig(tau=0.0, branch_factor=3),
    ArpoReleasedRuleConfig(branch_factor=2),
    AepoRuleConfig(tau=0.4),
    AepoReleasedRuleConfig(),
    RandomRuleConfig(rate=(1.0, 0.3)),
    ThresholdRuleConfig(),
    ThresholdRuleConfig(threshold=0.4),
    TokenEntropyRuleConfig(),
    TokenEntropyRuleConfig(branch_factor=2),
    RandomTokenRuleConfig(),
    EptreeRuleConfig(),
    EptreeRuleConfig(tokens_per_tree=1, branch_factor=1),
    RandomNodeRuleConfig(),
    RandomNodeRuleConfig(nodes_per_tree=1),
    AppoRuleConfig(),
    AppoRuleConfig(branches_per_trajectory=1, half_life=2.0),
    MixedOutcomesRuleConfig(),
]
NEVER = ThresholdRuleConfig(threshold=1e9, max_branches=1)
"""May branch at every result, and does at none."""


def fitted(rule: Any, group_size: int, num_initial: int | None = None) -> Any:
    """The rule, without a number of branches where these can fill one leaf only."""
    num_places = group_size - (num_initial or max(1, group_size // 2))
    return type(rule)(**{k: v for k, v in rule.keys_set().items() if num_places > 1 or k not in rule.count_keys})


PIECES = {
    "": [("<search>", 6), ("<answer>", 2), ("a", 1), ("<|end|>", 1)],
    "<search>": [("a", 5), ("</search>", 1)],
    "<answer>": [("a", 4), ("</answer>", 1), ("<search>", 1)],
    "a": [("</search>", 5), ("b", 2), ("</answer>", 2), ("<search>", 1), ("<|end|>", 1)],
}
TWO_TOOLS = {
    "": [("<search>", 9), ("<python>", 9), ("<answer>", 1)],
    "<search>": [("a", 1)],
    "<python>": [("b", 1)],
    "a": [("</search>", 1)],
    "b": [("</python>", 1)],
    "<answer>": [("</answer>", 1)],
}
"""Long paths whose calls are all well formed."""


class Babbler(ScriptedEngine):
    """Writes markup at random, with random entropies: what it draws depends on (seed, position) and the last token alone."""

    def __init__(self, tokenizer: PolicyTokenizer, pieces: dict[str, list[tuple[str, int]]] = PIECES):
        super().__init__(lambda text: text, tokenizer)
        self._eos_ids = tokenizer.eos_ids
        self._pieces = pieces

    async def generate(
        self, prefix: TokenPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, TokenPrefix]:
        prefix.require_held()
        await asyncio.sleep(0)
        drawn = list(prefix.token_ids[len(prefix.token_ids) - position :])
        logprobs, entropies, reason = [], [], None
        while reason is None:
            random = Random(f"{seed} {position + len(entropies)}")
            last = self._tokenizer.decode(drawn[-1:])
            known = self._pieces
            pieces, weights = zip(*known.get(last, known["a"] if drawn else known[""]), strict=True)
            (token,) = self._tokenizer.encode_markup(random.choices(pieces, weights)[0])
            drawn.append(token)
            logprobs.append(-random.random())
            entropies.append(random.choice([0.0, random.random()]))
            if token in self._eos_ids:
                reason = StopReason.EOS
            elif any(s in self._tokenizer.decode(drawn) for s in stop):
                reason = StopReason.STOP_STRING
            elif len(entropies) == sampling.max_tokens:
                reason = StopReason.LENGTH
        token_ids = drawn[position:]
        completion = Completion(
            token_ids=token_ids, logprobs=logprobs, entropies=entropies, stop_reason=reason, policy_version=self.version
        )
        return completion, prefix.extend(token_ids, is_sampled=True)


async def grow(
    agent: Any, tasks: Sequence[Task], config: RolloutConfig, seed: int = 0, past: Mapping[str, PastGroups] | None = None
) -> list[RolloutTree]:
    runner = RolloutRunner(agent, config, max_live_groups=2)
    trees = [tree async for tree in runner.sample(tasks, seed=seed, past_groups=past)]
    return sorted(trees, key=lambda t: t.task.id)


def timeless(trees: Sequence[RolloutTree]) -> list[RolloutTree]:
    for node in [n for tree in trees for n in tree.nodes]:
        node.results = tuple(replace(result, seconds=0.0) for result in node.results)
    for tree in trees:
        tree.seconds = None
    return list(trees)


def check(tree: RolloutTree, config: RolloutConfig, agent: Any) -> None:
    """What holds of every tree."""
    assert len(tree.leaves()) == config.group_size
    assert all(leaf.kind is NodeKind.COMPLETION for leaf in tree.leaves())
    assert [n.id for n in tree.depth_first()] == list(range(len(tree.nodes)))
    num_branches = sum(n.is_branch for n in tree.nodes)
    num_topups = sum(not tree.nodes[c].is_branch for c in tree.children[0]) - tree.settings["num_initial"]
    assert num_topups >= 0
    assert tree.settings["num_initial"] + num_branches + num_topups == config.group_size
    for node in tree.nodes[1:]:
        parent = tree.nodes[node.parent or 0]
        if node.is_branch:
            rule = build_rule(config.rule)
            if rule.forks_at_nodes:
                assert parent.kind in (NodeKind.PROMPT, NodeKind.OBSERVATION)
            else:
                assert parent.kind is (NodeKind.COMPLETION if rule.forks_inside else NodeKind.OBSERVATION)
        if node.is_sampled and not any(tree.nodes[c].is_sampled for c in tree.children[node.id]):
            whole = turn_completions(tree, node)
            ids = [t for n in whole for t in n.token_ids]
            text = agent.tokenizer.decode([t for t in ids if t not in agent.tokenizer.eos_ids])
            assert node.parse == agent.protocol.parse(text)
            assert "".join(n.text for n in whole) == text
            assert len(ids) <= agent.limits.max_turn_tokens
        if node.is_sampled:
            assert len(node.token_ids) == len(node.logprobs or []) == len(node.entropies or []) > 0
    assert all(len(t.token_ids) <= agent.limits.max_trajectory_tokens for t in tree.trajectories())
    assert tree_from_dict(tree_to_dict(tree)) == tree


def test_every_rule_is_tried() -> None:
    assert {r.type for r in RULES} == set(BRANCH_RULES)


@pytest.fixture(scope="session")
def babbling(make_world, tokenizer: PolicyTokenizer):
    """A function that makes an agent whose model babbles and whose tool takes the time it is told."""
    return lambda latency=lambda: 0.0: replace(make_world(latency=latency).agent, engine=Babbler(tokenizer))


def task_named(name: str) -> Task:
    return Task(id=name, messages=(Message(role="user", content=f"question {name}"),), references=("a",), source="test")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rule=st.sampled_from(RULES),
    group_size=st.integers(1, 9),
    num_initial=st.none() | st.integers(1, 8),
    window=st.integers(1, 4),
    estimator=st.sampled_from(["exact", "surprisal"]),
    seed=st.integers(0, 10**6),
)
def test_exactly_m_leaves_whatever_the_model_writes(
    babbling, rule: Any, group_size: int, num_initial: int | None, window: int, estimator: Any, seed: int
) -> None:
    if group_size == 1:
        rule = NoBranchingConfig()
    if num_initial is not None and (rule.type in ("none", "mixed_outcomes") or num_initial >= group_size):
        num_initial = None
    if rule.type == "appo":
        estimator = "exact"
    rule = fitted(rule, group_size, num_initial)
    config = RolloutConfig(
        group_size=group_size,
        num_initial_trajectories=num_initial,
        rule=rule,
        entropy_window=window,
        entropy_estimator=estimator,
    )
    agent = babbling()
    for tree in asyncio.run(grow(agent, [task_named(f"{i}") for i in range(3)], config, seed)):
        check(tree, config, agent)


async def test_appo_forks_the_best_tokens_of_whole_trajectories(babbling) -> None:
    """Worked out from finished trees: turns and cuts put together again, scores by torch, the best one of each trajectory."""
    rule = AppoRuleConfig(branches_per_trajectory=1, half_life=4.0)
    config = RolloutConfig(group_size=6, num_initial_trajectories=3, rule=rule, entropy_window=2)
    agent, num_forks, num_bounded = babbling(), 0, 0
    for tree in await grow(agent, [task_named(f"{i}") for i in range(12)], config):
        check(tree, config, agent)
        for start in tree.children[0][: tree.settings["num_initial"]]:
            tokens, places, forked = _initial_trajectory(tree, tree.nodes[start])
            if len(tokens) < 2:
                continue
            h, logp = torch.tensor(tokens, dtype=torch.float64).T
            gains = torch.stack([(0.5 ** (torch.arange(len(h) - t) / 4) * (h + logp)[t:]).sum() for t in range(len(h))])
            z, gain = ((x - x.mean()) / x.std() for x in (h, gains))
            scores = {t: float(z[t] * gain[t]) for t in places if z[t] > 0 and gain[t] > 0}
            assert forked == set(sorted(scores, key=lambda t: -scores[t])[:1])
            num_forks, num_bounded = num_forks + len(forked), num_bounded + (len(scores) > 1)
    assert num_forks > 10
    assert num_bounded > 3


def _initial_trajectory(tree: RolloutTree, node: Node) -> tuple[list[tuple[float, float]], list[int], set[int]]:
    """Of a trajectory from the prompt: entropy and log-prob of its tokens, those that begin no turn, and those forked."""
    tokens, places, forked = list[tuple[float, float]](), list[int](), set[int]()
    while True:
        children = [tree.nodes[i] for i in tree.children[node.id]]
        if node.is_sampled:
            is_rest = tree.nodes[node.parent or 0].is_sampled
            places += range(len(tokens) + (not is_rest), len(tokens) + len(node.token_ids))
            tokens += zip(node.entropies or [], node.logprobs or [], strict=True)
            forked |= {len(tokens)} if any(child.is_branch for child in children) else set()
        following = [child for child in children if not child.is_branch]
        if not following:
            return tokens, places, forked
        (node,) = following


async def test_a_budget_follows_the_tasks_earlier_groups(babbling) -> None:
    """N = 8 - floor(6 p + 0.5): without earlier groups p = 1/2, 8 - 3; 5 of 6 mixed: p = 6/8, 8 - 5; 0 of 6: p = 1/8, 8 - 1."""
    config = RolloutConfig(group_size=8, rule=MixedOutcomesRuleConfig(), entropy_window=2)
    tasks, agent = [task_named(name) for name in ("new", "mixed", "equal")], babbling()
    past = {
        "mixed": PastGroups(num_groups=6, num_mixed=5),
        "equal": PastGroups(num_groups=6),
        "other": PastGroups(num_groups=9),
    }
    trees = {tree.task.id: tree for tree in await grow(agent, tasks, config, past=past)}
    assert {name: tree.settings["num_initial"] for name, tree in trees.items()} == {"new": 5, "mixed": 3, "equal": 7}
    for tree in trees.values():
        check(tree, config, agent)
    again = {tree.task.id: tree for tree in await grow(agent, tasks, config)}
    assert {tree.settings["num_initial"] for tree in again.values()} == {5}
    assert timeless([again["new"]]) == timeless([trees["new"]]), "the groups of other tasks change nothing"


async def test_a_rule_that_does_not_ask_grows_the_same_trees_whatever_the_past(babbling) -> None:
    tasks, past = [task_named("0")], {"0": PastGroups(num_groups=6, num_mixed=5)}
    for rule in RULES:
        config = RolloutConfig(group_size=7, rule=rule, entropy_window=2)
        with_past, without = [timeless(await grow(babbling(), tasks, config, past=known)) for known in (past, None)]
        assert (with_past == without) == (not build_rule(rule).uses_past_groups), rule


LONG = LimitsConfig(max_turn_tokens=12, max_trajectory_tokens=1000)


async def test_an_adaptive_threshold_lets_every_path_branch_at_its_first_result(make_world, tokenizer: PolicyTokenizer) -> None:
    """The results of one turn are judged together: of 20 groups each of six paths branches there in some."""
    config = RolloutConfig(group_size=12, num_initial_trajectories=6, rule=ThresholdRuleConfig(), entropy_window=2)
    world = make_world(tools=("search", "python"), limits=LONG)
    agent, forked = replace(world.agent, engine=Babbler(tokenizer, TWO_TOOLS)), set[int]()
    for tree in await grow(agent, [task_named(f"{i}") for i in range(20)], config):
        for index, child in enumerate(tree.children[0][:6]):
            result = [n for n in tree.nodes if n.parent == child and n.kind is NodeKind.OBSERVATION]
            forked |= {index} if result and len(tree.children[result[0].id]) > 1 else set()
    assert forked == set(range(6))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rule=st.sampled_from(RULES),
    group_size=st.integers(2, 9),
    max_calls=st.integers(1, 4),
    max_calls_per_tool=st.dictionaries(st.sampled_from(["search", "python"]), st.integers(1, 3)),
    seed=st.integers(0, 10**6),
)
def test_exactly_m_leaves_under_limits_of_single_tools(
    make_world, tokenizer: PolicyTokenizer, rule: Any, group_size: int, max_calls: int, max_calls_per_tool: dict[str, int],
    seed: int,
) -> None:  # fmt: skip
    """A refused call of one tool does not end a path, which may call the other."""
    config = RolloutConfig(group_size=group_size, rule=fitted(rule, group_size), entropy_window=2)
    world = make_world(max_calls=max_calls, max_calls_per_tool=max_calls_per_tool, tools=("search", "python"), limits=LONG)
    agent = replace(world.agent, engine=Babbler(tokenizer, TWO_TOOLS))
    for tree in asyncio.run(grow(agent, [task_named(f"{i}") for i in range(3)], config, seed)):
        check(tree, config, agent)
        assert max(n.turn for n in tree.nodes) <= world.executor.max_observations


@pytest.mark.parametrize(("limit", "bound"), [({}, 4), ({"search": 1}, 6), ({"search": 2}, 5), ({"search": 7}, 4)])
async def test_a_path_reads_as_many_results_as_the_bound_says_and_no_more(
    make_world, tokenizer: PolicyTokenizer, limit: dict[str, int], bound: int
) -> None:
    """Of three calls; the policy searches until it is refused, then programs once, and searches again."""

    def script(text: str) -> str:
        is_refused = "of search are used up" in text.rpartition("<result>")[2]
        return "<python>b</python>" if is_refused else "<search>a</search>"

    world = make_world(max_calls=3, max_calls_per_tool=limit, tools=("search", "python"), limits=LONG)
    agent = replace(world.agent, engine=ScriptedEngine(script, tokenizer))
    config = RolloutConfig(group_size=4, num_initial_trajectories=1, rule=NEVER, entropy_window=1)
    (tree,) = await grow(agent, [task_named("0")], config)
    assert len(tree.leaves()) == 4
    assert max(n.turn for n in tree.nodes) == world.executor.max_observations == bound


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.type)
async def test_latency_changes_no_tree_of_any_rule(babbling, rule: Any, random_latency) -> None:
    config = RolloutConfig(group_size=7, rule=rule, entropy_window=2)
    tasks = [task_named(f"{i}") for i in range(4)]
    first, *others = [
        timeless(await grow(babbling(latency), tasks, config)) for latency in (lambda: 0.0, *map(random_latency, (1, 2)))
    ]
    assert first == others[0] == others[1]
    if rule.type != "none":
        assert any(n.is_branch for tree in first for n in tree.nodes)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.type)
async def test_nothing_is_left_and_nothing_is_computed_twice(make_world, tasks: list[Task], rule: Any) -> None:
    """Of the real engine. A fork inside a completion computes one token again: the one its first draw follows."""
    world = make_world()
    config = RolloutConfig(group_size=6, rule=rule, entropy_window=2)
    trees = await grow(world.agent, tasks, config)
    world.assert_empty()
    for tree in trees:
        check(tree, config, world.agent)
    num_inside = sum(n.is_branch for t in trees for n in t.nodes) if build_rule(rule).forks_inside else 0
    assert world.engine.num_computed_tokens == sum(t.num_unique_tokens - len(t.leaves()) for t in trees) + num_inside
    if build_rule(rule).forks_inside:
        assert num_inside == len(tasks) * 3


def trees_of(tree: RolloutTree) -> list[int]:
    """Leaves of each initial trajectory's tree; a branch at the prompt follows its own among the siblings."""
    sizes: list[int] = []
    for child in tree.children[0]:
        size = sum(tree.path(leaf)[1].id == child for leaf in tree.leaves())
        if tree.nodes[child].is_branch:
            sizes[-1] += size
        else:
            sizes.append(size)
    return sizes


async def test_every_tree_of_tree_grpo_grows_alike_at_steps_drawn_uniformly(make_world, tokenizer: PolicyTokenizer) -> None:
    """M = 4, N = 3, L = 1, paths of 4 calls: 4 leaves per tree; the 12 new paths of each of 60 groups begin at the prompt and
    at each result equally often: chi-square of 5 cells of 144 below 18.5, the 0.999 quantile of 4 degrees of freedom."""
    world = make_world(max_calls=5, limits=LONG)
    script = lambda text: "<answer>a</answer>" if text.count("<result>") == 4 else "<search>a</search>"  # noqa: E731
    agent = replace(world.agent, engine=ScriptedEngine(script, tokenizer))
    config = RolloutConfig(group_size=16, num_initial_trajectories=4, rule=RandomNodeRuleConfig(nodes_per_tree=3))
    turns: Counter[int] = Counter()
    for tree in await grow(agent, [task_named(f"{i}") for i in range(60)], config):
        assert trees_of(tree) == [4, 4, 4, 4]
        turns.update(n.turn for n in tree.nodes if n.is_branch)
    assert sum(turns.values()) == 60 * 12
    assert sum((turns[turn] - 144) ** 2 / 144 for turn in range(5)) < 18.5


@pytest.mark.parametrize(("rounds", "group_size"), [(1, 15), (2, 27)])
@pytest.mark.parametrize(
    "rule", [EptreeRuleConfig(tokens_per_tree=2, branch_factor=2), RandomNodeRuleConfig(nodes_per_tree=4)], ids=lambda r: r.type
)
async def test_every_tree_gets_as_many_branches(
    make_world, tokenizer: PolicyTokenizer, rule: Any, rounds: int, group_size: int
) -> None:
    """M = 3, N T = 4: 3 (1 + 4 L) leaves, 1 + 4 L of each tree; of tokens where each has two to fork at, so in most groups."""
    world = make_world(max_calls=4, tools=("search", "python"), limits=LONG)
    agent = replace(world.agent, engine=Babbler(tokenizer, TWO_TOOLS))
    config, num_alike = RolloutConfig(group_size=group_size, num_initial_trajectories=3, rule=rule), 0
    for tree in await grow(agent, [task_named(f"{i}") for i in range(20)], config):
        check(tree, config, agent)
        num_alike += trees_of(tree) == [1 + 4 * rounds] * 3
    assert num_alike == 20 or (rule.type == "eptree" and num_alike >= 15)


async def test_forks_inside_start_at_the_tokens_of_highest_entropy(make_world, tasks: list[Task]) -> None:
    """M - N = 3 new paths, each after the tokens before one of the three highest entropies of the first three trajectories."""
    config = RolloutConfig(group_size=6, rule=TokenEntropyRuleConfig())
    for tree in await grow(make_world().agent, tasks, config):
        originals = [t for t in tree.trajectories() if not any(n.is_branch for n in t.nodes)]
        assert len(originals) == 3
        wholes: dict[int, list[float]] = {}
        for trajectory in originals:
            for node in trajectory.completions:
                parts = turn_completions(tree, node)
                below = [c for c in tree.children[node.id] if tree.nodes[c].is_sampled]
                if not below:
                    wholes[parts[0].id] = [x for n in parts for x in n.entropies or []]
        highest = sorted((x for w in wholes.values() for x in w[1:]), reverse=True)[:3]
        forked = [
            rest.entropies[0]
            for branch in tree.nodes if branch.is_branch
            for rest in [tree.nodes[c] for c in tree.children[branch.parent]] if not rest.is_branch
        ]  # fmt: skip
        assert sorted(forked, reverse=True) == pytest.approx(highest)


async def test_a_fork_inside_draws_from_the_distribution_it_left(make_world, tasks: list[Task]) -> None:
    """The engine's prefix there is the right one: a fresh computation of the same ids gives the same log-probs."""
    world = make_world()
    (tree,) = await grow(world.agent, tasks[:1], RolloutConfig(group_size=8, rule=TokenEntropyRuleConfig()))
    world.model.set_attn_implementation("eager")
    for branch in [n for n in tree.nodes if n.is_branch]:
        before = [t for n in tree.path(branch)[:-1] for t in n.token_ids]
        sequence = torch.tensor([before + branch.token_ids])
        with torch.inference_mode():
            logprobs = torch.log_softmax(world.model(sequence).logits[0], dim=-1)
        expected = [logprobs[len(before) + i - 1, t].item() for i, t in enumerate(branch.token_ids)]
        assert branch.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("estimator", "top_k"), [("exact", None), ("top_k", 2), ("surprisal", None)])
async def test_every_estimator_takes_effect_and_is_recorded(
    make_world, tasks: list[Task], estimator: Any, top_k: int | None
) -> None:
    world = make_world()
    chosen = {"entropy_estimator": estimator} | ({"entropy_top_k": top_k} if top_k is not None else {})
    config = RolloutConfig(group_size=4, entropy_window=2, rule=ArpoRuleConfig(tau=0.0), **chosen)
    trees = await grow(world.agent, tasks, config)
    for tree in trees:
        assert tree.settings == {
            "rule": "arpo", "num_initial": 2, "temperature": 1.0, "entropy_estimator": estimator, "entropy_top_k": top_k,
            "entropy_window": 2, "entropy_normalizer": "log_vocab",
        }  # fmt: skip
    measured = [(t, n) for t in trees for n in t.nodes if n.entropy_delta is not None]
    assert measured
    for tree, node in measured:
        (own,) = [tree.nodes[c] for c in tree.children[node.id] if not tree.nodes[c].is_branch]
        first = tree.path(node)[1]
        after, initial = (
            [[-x for x in n.logprobs or []] for n in (own, first)]
            if estimator == "surprisal"
            else (own.entropies, first.entropies)
        )
        expected = entropy_delta(
            after or [], initial or [], window=2, normalizer="log_vocab", vocab_size=world.agent.tokenizer.vocab_size
        )
        assert node.entropy_delta == pytest.approx(expected, abs=1e-12)


async def test_an_estimator_the_engine_lacks_is_refused(babbling) -> None:
    agent = babbling()
    agent.engine.entropy_estimators = ("top_k",)
    with pytest.raises(ConfigError, match=r"rollout\.entropy_estimator = 'exact'"):
        RolloutRunner(agent, RolloutConfig())
    RolloutRunner(agent, RolloutConfig(entropy_estimator="top_k"))


@pytest.mark.parametrize("group_size", [2, 7])
async def test_the_probe_is_a_leaf_and_one_of_the_initial_trajectories(babbling, group_size: int) -> None:
    """N follows from the first trajectory of the finished tree, which counts."""
    config = RolloutConfig(group_size=group_size, rule=AepoRuleConfig(probe_slope=3.0), entropy_window=2)
    agent, seen = babbling(), set()
    for tree in await grow(agent, [task_named(f"{i}") for i in range(12)], config):
        nodes = [tree.nodes[tree.children[0][0]]]
        while own := [c for c in tree.children[nodes[-1].id] if not tree.nodes[c].is_branch]:
            nodes.append(tree.nodes[own[0]])
        means = [fmean((n.entropies or [])[:2]) for n in nodes if n.is_sampled]
        after = fmean(means[1:]) if means[1:] else means[0]
        planned = group_size / (1 + exp(-3.0 * (means[0] - after)))
        assert tree.settings["num_initial"] == min(group_size, max(1, floor(planned + 0.5)))
        assert len(tree.children[0]) >= tree.settings["num_initial"]
        seen.add(tree.settings["num_initial"])
    assert group_size < 7 or len(seen) > 1


class Watched:
    """Another environment, and how many of its sessions were open when a turn was answered."""

    def __init__(self, inner: Environment):
        self.inner = inner
        self.max_observations = inner.max_observations
        self.num_opened = 0
        self.seen: set[int] = set()

    async def open(self, task: Task, seed: int) -> Session:
        self.num_opened += 1
        return WatchedSession(self, await self.inner.open(task, seed))

    def drain_metrics(self) -> dict[str, float]:
        return self.inner.drain_metrics()

    async def aclose(self) -> None:
        await self.inner.aclose()


class WatchedSession:
    messages = ()

    def __init__(self, environment: Watched, inner: Session):
        self.environment, self.inner = environment, inner

    async def step(self, turn: Turn) -> Step:
        await asyncio.sleep(0.001)  # so that what was started has begun
        self.environment.seen.add(self.environment.num_opened)
        return await self.inner.step(turn)

    def fork(self) -> Session:
        return WatchedSession(self.environment, self.inner.fork())

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_top_ups_start_as_soon_as_no_branch_can_take_their_place(make_world, tokenizer: PolicyTokenizer) -> None:
    """Rate 0, Z = 1, M = 12, N = 1: eleven top-ups. The first path reads three results and a refusal.

    With r results to come it can bring 2^r - 1 branches: 15, 7, 3, 1, 0. So 11 - 7 = 4 top-ups start after its first result,
    7 - 3 = 4 after the second, 3 - 1 = 2 after the third and the last one after the refusal: 1, 5, 9, 11, 12 trajectories.
    """
    agent = replace(
        make_world().agent,
        limits=LimitsConfig(max_turn_tokens=12, max_trajectory_tokens=400),
        engine=ScriptedEngine(lambda text: "<answer>a</answer>" if "Refused" in text else "<search>a</search>", tokenizer),
    )
    agent = replace(agent, environment=Watched(agent.environment))
    config = RolloutConfig(group_size=12, num_initial_trajectories=1, rule=NEVER, entropy_window=1)
    (tree,) = await grow(agent, [task_named("0")], config)
    assert len(tree.leaves()) == 12
    assert sorted(agent.environment.seen) == [1, 5, 9, 11, 12]
