"""Groups grow to exactly their size, branch where the rule says, and are the same whatever the tools' latency."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from random import Random
from statistics import fmean
from typing import Any

import pytest

from arpo.errors import DataError, EngineError, ToolError
from arpo.inference.scripted import ScriptedEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.config import ArpoRuleConfig, LimitsConfig, NoBranchingConfig, RolloutConfig
from arpo.rollout.entropy import entropy_delta
from arpo.rollout.runner import RolloutRunner
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.branching_statistics import measure_branching
from arpo.types import StopReason, Task, ToolResult

EAGER = ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.0)
"""Asks for a branch after every tool result."""


async def grow(world: Any, tasks: Sequence[Task], config: RolloutConfig, *, seed: int = 1, live: int = 64) -> list[RolloutTree]:
    runner = RolloutRunner(world.agent, config, max_live_groups=live)
    trees = [tree async for tree in runner.sample(tasks, seed=seed)]
    world.assert_empty()
    assert sorted(t.task.id for t in trees) == sorted(t.id for t in tasks)
    return sorted(trees, key=lambda t: t.task.id)


def timeless(trees: Sequence[RolloutTree]) -> list[RolloutTree]:
    """The trees without wall times."""
    for node in [n for tree in trees for n in tree.nodes]:
        node.results = tuple(replace(result, seconds=0.0) for result in node.results)
    for tree in trees:
        tree.seconds = None
    return list(trees)


def original_child(tree: RolloutTree, node: Node) -> Node | None:
    """The completion by which the path that made the call went on; None when the node is the start of branches only."""
    own = [c for c in tree.children[node.id] if not tree.nodes[c].is_branch]
    assert len(own) <= 1
    return tree.nodes[own[0]] if own else None


def check_tree(tree: RolloutTree, config: RolloutConfig, limits: LimitsConfig) -> None:
    """What holds of every finished tree."""
    assert len(tree.leaves()) == config.group_size
    assert all(leaf.kind is NodeKind.COMPLETION for leaf in tree.leaves())
    assert [n.id for n in tree.depth_first()] == list(range(len(tree.nodes)))
    assert len(tree.children[0]) >= config.num_initial_trajectories
    for node in tree.nodes[1:]:
        parent = tree.nodes[node.parent or 0]
        if node.is_branch:
            assert parent.kind is NodeKind.OBSERVATION
            assert parent.branch_score is not None
        elif node.kind is NodeKind.COMPLETION:
            assert parent.kind in (NodeKind.PROMPT, NodeKind.OBSERVATION)
        if node.kind is NodeKind.COMPLETION:
            assert len(node.token_ids) == len(node.logprobs or []) == len(node.entropies or [])
            assert 1 <= len(node.token_ids) <= limits.max_turn_tokens
            assert node.parse is not None
        else:
            assert node.logprobs is None
            assert node.entropies is None
            assert parent.calls
    for trajectory in tree.trajectories():
        assert len(trajectory.token_ids) <= limits.max_trajectory_tokens
        sampled = [n.kind is NodeKind.COMPLETION for n in trajectory.nodes for _ in n.token_ids]
        assert trajectory.loss_mask == sampled


@pytest.mark.parametrize(
    "config",
    [
        RolloutConfig(group_size=1, rule=NoBranchingConfig()),
        RolloutConfig(group_size=6, num_initial_trajectories=1, rule=EAGER, entropy_window=1),
        RolloutConfig(group_size=7, num_initial_trajectories=3, entropy_window=3),
        RolloutConfig(group_size=8, num_initial_trajectories=2, rule=EAGER.model_copy(update={"branch_factor": 3})),
        RolloutConfig(group_size=5, num_initial_trajectories=4, rule=EAGER),
        RolloutConfig(group_size=4, rule=NoBranchingConfig()),
        RolloutConfig(group_size=9, num_initial_trajectories=4, deterministic=False, rule=EAGER, entropy_window=2),
    ],
    ids=lambda c: f"{c.rule.type}-M{c.group_size}-N{c.num_initial_trajectories}-k{c.entropy_window}",
)
async def test_exactly_m_leaves_and_every_invariant(
    config: RolloutConfig, make_world, tasks: list[Task], random_latency
) -> None:
    world = make_world(latency=random_latency(0))
    for seed in range(3):
        for tree in await grow(world, tasks, config, seed=seed, live=2):
            check_tree(tree, config, world.agent.limits)


async def grown(make_world, tasks: Sequence[Task], **rule: Any) -> tuple[Any, RolloutConfig, list[RolloutTree]]:
    """Trees with branches and top-ups."""
    world = make_world()
    config = RolloutConfig(group_size=8, num_initial_trajectories=3, entropy_window=3, rule=ArpoRuleConfig(**rule))
    return world, config, await grow(world, tasks, config)


async def test_baseline_and_delta_follow_from_the_tree_alone(make_world, many_tasks: list[Task]) -> None:
    world, _, trees = await grown(make_world, many_tasks)
    measured = asked = 0
    for tree in trees:
        for node in (n for n in tree.nodes if n.kind is NodeKind.OBSERVATION):
            own = original_child(tree, node)
            assert own is not None
            baseline = tree.path(node)[1]
            expected = entropy_delta(
                own.entropies or [],
                baseline.entropies or [],
                window=3,
                normalizer="log_vocab",
                vocab_size=world.agent.tokenizer.vocab_size,
            )
            assert node.entropy_delta == pytest.approx(expected, abs=1e-12)
            measured += 1
            if node.branch_score is not None:  # the rule was asked: leaves were missing
                assert node.branch_score == pytest.approx(0.5 + 0.2 * expected, abs=1e-12)
                asked += 1
    assert measured > asked > 10


@pytest.mark.parametrize("rule", [{}, {"tau": 0.505}, {"tau": 0.0, "branch_factor": 3}])
async def test_the_budget_goes_by_priority_turn_after_turn(rule: dict[str, float], make_world, many_tasks: list[Task]) -> None:
    """Branches and top-ups of every tree, recomputed from the scores it stores."""
    _, config, trees = await grown(make_world, many_tasks, **rule)
    branch_factor, tau = rule.get("branch_factor", 1), rule.get("tau", 0.5)
    kinds = Counter()
    for tree in trees:
        initial = set(tree.children[0][: config.num_initial_trajectories])
        scored = [n for n in tree.nodes if n.branch_score is not None and tree.path(n)[1].id in initial]
        left = config.group_size - config.num_initial_trajectories
        expected: dict[int, int] = {}
        for turn in sorted({n.turn for n in scored}):
            ask = [n for n in scored if n.turn == turn and n.branch_score > tau]
            for node in sorted(ask, key=lambda n: -(n.branch_score or 0)):
                expected[node.id] = min(branch_factor, left)
                left -= expected[node.id]
        found = Counter(n.parent for n in tree.nodes if n.is_branch)
        assert dict(found) == {node: count for node, count in expected.items() if count}
        assert len(tree.children[0]) == config.num_initial_trajectories + left
        kinds.update(branches=sum(found.values()), top_ups=left, denied=sum(c < branch_factor for c in expected.values()))
    assert kinds["branches"] > 5
    assert kinds["top_ups" if tau > 0 else "denied"] > 5


@pytest.mark.parametrize("rule", [{}, {"tau": 0.505}, {"tau": 0.0, "branch_factor": 3}])
async def test_the_records_of_branching_agree_with_the_scores(rule: dict[str, float], make_world, many_tasks: list[Task]):
    """Fates, shares and means of the statistics, counted directly from the nodes of real trees."""
    _, config, trees = await grown(make_world, many_tasks, **rule)
    tau, count = rule.get("tau", 0.5), rule.get("branch_factor", 1)
    fates, rises, after, weights, forks = Counter[str](), 0.0, list[float](), list[float](), 0
    for tree in trees:
        topups = set(tree.children[0][config.num_initial_trajectories :])
        for node in tree.nodes:
            if node.kind is not NodeKind.OBSERVATION:
                continue
            own = original_child(tree, node)
            assert own is not None
            assert node.branches_requested == (None if node.branch_score is None else count if node.branch_score > tau else 0)
            num_branches = len(tree.children[node.id]) - 1
            is_asked, is_topup = node.branch_score is not None, tree.path(node)[1].id in topups
            if num_branches:
                fates["branched"] += 1
            elif is_asked and (node.branch_score or 0) <= tau:
                fates["declined"] += 1
            else:
                fates["topup" if is_topup else "no_budget"] += 1
            # a fork divides what stands behind it: one over the product of the numbers of children above
            weights.append(1 / prod(len(tree.children[n.id]) for n in tree.path(node)[1:-1]))
            rises += weights[-1] * ((node.entropy_delta or 0) > 0)
            after.append(fmean((own.entropies or [])[:3]) * weights[-1])
            forks += num_branches > 0
    found = measure_branching(trees)
    assert {fate: n for fate, n in found["results"]["fates"].items() if n} == fates
    assert fates["branched"] > 3
    assert len(fates) > 2
    assert found["results"]["rise_rate"] == pytest.approx(rises / sum(weights))
    assert found["results"]["entropy_after"] == pytest.approx(sum(after) / sum(weights))
    starts = [fmean((tree.nodes[c].entropies or [])[:3]) for tree in trees for c in tree.children[0]]
    assert found["initial_entropy"] == pytest.approx(fmean(starts))
    assert found["unsure_start_rate"] == pytest.approx(sum(h > 0.1 for h in starts) / len(starts))
    assert found["forks"]["num_forks"] == sum(row["num_forks"] for row in found["forks_by_turn"]) == forks
    assert found["forks"]["num_branches"] == sum(n.is_branch for tree in trees for n in tree.nodes)


async def test_latency_changes_nothing(make_world, tasks: list[Task], random_latency) -> None:
    """Token ids, log-probs bit for bit, branches, numbering, and the number of forward passes."""
    config = RolloutConfig(group_size=6, num_initial_trajectories=2, entropy_window=2)
    results = []
    for latency in (lambda: 0.0, random_latency(1), random_latency(2)):
        world = make_world(latency=latency)
        trees = timeless(await grow(world, tasks, config, live=2))
        results.append((trees, world.engine.num_forward_passes, world.engine.num_computed_tokens))
    assert results[0] == results[1] == results[2]
    assert any(n.is_branch for tree in results[0][0] for n in tree.nodes)


async def test_seeds_change_trees_and_a_second_growth_of_one_engine_repeats_the_first(make_world, tasks: list[Task]) -> None:
    world, config = make_world(), RolloutConfig(group_size=4, entropy_window=2)
    first, other, again = [timeless(await grow(world, tasks, config, seed=s)) for s in (1, 2, 1)]
    assert first == again
    assert all(a.nodes != b.nodes for a, b in zip(first, other, strict=True))


async def test_a_tree_does_not_depend_on_the_other_tasks(make_world, tasks: list[Task]) -> None:
    config = RolloutConfig(group_size=4, num_initial_trajectories=2, entropy_window=2)
    together = await grow(make_world(), tasks, config)
    for task, tree in zip(tasks, together, strict=True):
        (alone,) = await grow(make_world(), [task], config)
        assert [n.token_ids for n in alone.nodes] == [n.token_ids for n in tree.nodes]
        drawn = [x for n in alone.nodes for x in n.logprobs or []]
        assert drawn == pytest.approx([x for n in tree.nodes for x in n.logprobs or []], abs=1e-4)


async def test_each_unique_token_is_computed_once(make_world, tasks: list[Task]) -> None:
    """All but the last token of each leaf, which nothing follows."""
    world = make_world()
    config = RolloutConfig(group_size=8, num_initial_trajectories=3, entropy_window=3, rule=EAGER)
    trees = await grow(world, tasks, config)
    assert sum(n.is_branch for t in trees for n in t.nodes) > 3
    assert world.engine.num_computed_tokens == sum(t.num_unique_tokens - len(t.leaves()) for t in trees)


async def test_the_completion_s_text_has_no_end_of_sequence(make_world, tasks: list[Task], tokenizer: PolicyTokenizer) -> None:
    trees = await grow(make_world(), tasks, RolloutConfig(group_size=16, rule=NoBranchingConfig()))
    ended = [n for t in trees for n in t.nodes if n.stop_reason is StopReason.EOS]
    assert ended
    for node in ended:
        assert node.token_ids[-1] in tokenizer.eos_ids
        assert node.text == tokenizer.decode(node.token_ids[:-1])


async def test_a_call_over_the_limit_is_refused_once_and_an_answer_may_follow(make_world, tasks: list[Task]) -> None:
    world = make_world(max_calls=1, limits=LimitsConfig(max_turn_tokens=12, max_trajectory_tokens=400))
    config = RolloutConfig(group_size=10, num_initial_trajectories=5, entropy_window=2, rule=EAGER)
    after = Counter()
    for seed in range(3):
        for tree in await grow(world, tasks, config, seed=seed):
            for trajectory in tree.trajectories():
                statuses = [r.status for r in trajectory.tool_results]
                assert statuses in ([], ["success"], ["success", "refused"])
                if statuses[-1:] == ["refused"]:
                    assert "you may still give your answer" in trajectory.observations[-1].text
                    after["answer" if "<answer>" in trajectory.leaf.text else "other"] += 1
    assert after["answer"] > 0
    assert world.executor.counts.executed == len(world.queries)


@pytest.mark.parametrize(("max_turn", "max_trajectory"), [(1, 90), (3, 90), (12, 40), (12, 30), (5, 25)])
async def test_token_limits_are_exact(make_world, tasks: list[Task], max_turn: int, max_trajectory: int) -> None:
    limits = LimitsConfig(max_turn_tokens=max_turn, max_trajectory_tokens=max_trajectory)
    world = make_world(limits=limits)
    config = RolloutConfig(group_size=8, num_initial_trajectories=4, entropy_window=4, rule=EAGER)
    trees = await grow(world, tasks, config)
    for tree in trees:
        check_tree(tree, config, limits)
    cut = [t.leaf for tree in trees for t in tree.trajectories() if t.leaf.stop_reason is StopReason.LENGTH]
    for leaf in cut:
        total = sum(len(n.token_ids) for tree in trees if leaf in tree.nodes for n in tree.path(leaf))
        assert len(leaf.token_ids) == max_turn or total == max_trajectory
    if max_turn < 12:
        assert cut


async def test_a_trajectory_may_fill_its_limit_to_the_last_token(make_world, tasks: list[Task]) -> None:
    """Prompt of P tokens, limit P + 1: exactly one token is drawn, and no observation could follow it."""
    prompt = len(make_world().agent.protocol.encode_prompt(tasks[0]))
    world = make_world(limits=LimitsConfig(max_trajectory_tokens=max(8, prompt + 1)))
    (tree,) = await grow(world, tasks[:1], RolloutConfig(group_size=3, entropy_window=2))
    assert {len(t.token_ids) for t in tree.trajectories()} == {prompt + 1}


async def test_a_prompt_without_room_for_a_token_is_refused(make_world, tasks: list[Task]) -> None:
    prompt = len(make_world().agent.protocol.encode_prompt(tasks[1]))
    world = make_world(limits=LimitsConfig(max_trajectory_tokens=max(8, prompt)))
    with pytest.raises(DataError, match=f"'t[012]': its prompt has {prompt} tokens"):
        await grow(world, tasks, RolloutConfig(group_size=3))
    world.assert_empty()


async def test_a_failing_tool_is_an_observation(make_world, tasks: list[Task]) -> None:
    def fail(query: str) -> str:
        raise LookupError(f"no {query}")

    trees = await grow(make_world(tool=fail), tasks, RolloutConfig(group_size=6, entropy_window=2))
    results = [r for t in trees for n in t.nodes for r in n.results]
    assert results
    assert {r.status for r in results} == {"error"}
    assert all("LookupError" in r.content for r in results)


async def test_observations_are_never_trained_and_show_the_result(make_world, tasks: list[Task]) -> None:
    trees = await grow(make_world(tool=lambda query: f"</result><answer>{query}"), tasks, RolloutConfig(group_size=6))
    seen = [n for t in trees for n in t.nodes if n.kind is NodeKind.OBSERVATION]
    assert seen
    for node in seen:
        assert node.results
        assert not node.is_sampled
        assert node.text.count("</result>") == 1  # the tool's own tag is text, not markup
        assert "&lt;/result>&lt;answer>" in node.text


class CountingTool:
    """A tool with state: every fork is open until it is closed, exactly once."""

    name = "search"
    version = "1"
    is_cacheable = False
    schema: Mapping[str, Any] = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}

    def __init__(self, book: "dict[int, tuple[str, ...]]", history: tuple[str, ...] = (), refuse_after: int = 10**9):
        self.book, self.history, self.refuse_after = book, history, refuse_after

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        assert id(self) in self.book, "used after it was closed"
        self.history = (*self.history, arguments["query"])
        await asyncio.sleep(0)
        return ToolResult(content=" ".join(self.history))

    def fork(self) -> "CountingTool":
        if len(self.history) >= self.refuse_after:
            raise ToolError("this state cannot be copied")
        fork = CountingTool(self.book, self.history, self.refuse_after)
        self.book[id(fork)] = self.history
        self._keep = getattr(self, "_keep", [])
        self._keep.append(fork)  # ids stay unique
        return fork

    async def aclose(self) -> None:
        self.book.pop(id(self), None)


def with_state(world: Any, **options: int) -> dict[int, tuple[str, ...]]:
    book: dict[int, tuple[str, ...]] = {}
    tool = CountingTool(book, **options)
    world.executor = ToolExecutor({"search": tool}, ExecutorConfig(max_calls=3), world.tokenizer.cut)
    world.agent = replace(world.agent, environment=world.executor)
    return book


BRANCHING = RolloutConfig(group_size=8, num_initial_trajectories=2, entropy_window=2, rule=EAGER)


async def test_state_is_forked_where_the_branch_starts_and_every_session_is_closed(make_world, tasks: list[Task]) -> None:
    """Each observation shows the calls of its own path, in order: neither a sibling's nor the original's later ones."""
    world = make_world()
    book = with_state(world)
    deep = 0
    for seed in range(3):
        for tree in await grow(world, tasks, BRANCHING, seed=seed):
            for trajectory in tree.trajectories():
                calls = [call.arguments["query"] for n in trajectory.completions for call in n.calls]
                shown = [r.content for r in trajectory.tool_results if r.status == "success"]
                assert shown == [" ".join(calls[: i + 1]) for i in range(len(shown))]
                deep += len(shown) > 1 and any(n.is_branch for n in trajectory.nodes)
        assert book == {}
    assert deep > 0


async def test_a_tool_whose_state_cannot_be_forked_ends_the_run_and_frees_everything(make_world, tasks: list[Task]) -> None:
    world = make_world()
    book = with_state(world, refuse_after=1)
    with pytest.raises(ToolError, match="cannot be copied"):
        await grow(world, tasks, BRANCHING)
    await assert_nothing_left(world, book)


async def assert_nothing_left(world: Any, book: Mapping[int, object]) -> None:
    """Neither a slot nor a participant nor an open session nor a task but this one."""
    world.assert_empty()
    assert book == {}
    await world.engine.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _steps() -> Iterator[int]:
    random = Random(0)
    step = 0
    while step < 120:
        yield step
        step += random.randint(1, 11)


async def test_cancelling_at_any_moment_leaves_nothing(make_world, tasks: list[Task]) -> None:
    for steps in _steps():
        world = make_world()
        book = with_state(world)
        runner = RolloutRunner(world.agent, BRANCHING.model_copy(update={"deterministic": steps % 2 == 0}), max_live_groups=2)

        async def consume(runner: RolloutRunner = runner, seed: int = steps) -> int:
            return len([tree async for tree in runner.sample(tasks, seed=seed)])

        consumer = asyncio.create_task(consume())
        for _ in range(steps):
            await asyncio.sleep(0)
        consumer.cancel()
        (outcome,) = await asyncio.gather(consumer, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) or outcome == len(tasks)
        await assert_nothing_left(world, book)


@pytest.mark.parametrize("steps_between", range(6))
async def test_an_engine_that_fails_as_it_is_cancelled_is_not_tried_again(
    make_world, tasks: list[Task], steps_between: int
) -> None:
    world = make_world()
    consumer = asyncio.create_task(grow(world, tasks, BRANCHING))
    while world.engine.num_forward_passes < 4:
        await asyncio.sleep(0)
    world.engine._fail(ZeroDivisionError("broken kernel"))
    for _ in range(steps_between):
        await asyncio.sleep(0)
    num_passes = world.engine.num_forward_passes
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert world.engine.num_forward_passes <= num_passes + 1, "a tree grown again would need at least four"
    await assert_nothing_left(world, {})


async def test_a_failing_engine_ends_the_run_with_its_error_and_leaves_nothing(make_world, tasks: list[Task]) -> None:
    for limit in range(1, 22, 2):
        world = make_world()
        book = with_state(world)

        def fail(*_: object, engine=world.engine, limit: int = limit) -> None:
            if engine.num_forward_passes >= limit:
                raise ZeroDivisionError("broken kernel")

        world.model.base_model.register_forward_pre_hook(fail)
        with pytest.raises(EngineError, match="broken kernel") as error:
            await grow(world, tasks, BRANCHING, seed=limit)
        assert isinstance(error.value.__cause__, ZeroDivisionError)
        await assert_nothing_left(world, book)


async def test_leaving_the_loop_early_stops_the_growth(make_world, tasks: list[Task]) -> None:
    world = make_world()
    trees = RolloutRunner(world.agent, BRANCHING, max_live_groups=2).sample(tasks, seed=0)
    assert len((await anext(trees)).leaves()) == BRANCHING.group_size
    await trees.aclose()
    await assert_nothing_left(world, {})


async def test_no_tasks_no_trees(make_world) -> None:
    assert await grow(make_world(), [], BRANCHING) == []


async def test_a_scripted_policy_without_entropies_grows_too(make_world, tasks: list[Task], tokenizer: PolicyTokenizer) -> None:
    """It ends without an end-of-sequence token: its text is whole."""
    world = make_world()

    def script(prefix: str) -> str:
        return "<answer>ab</answer>" if "</result>" in prefix else "<search>ab</search>" if "0" in prefix else "abc"

    agent = replace(world.agent, engine=ScriptedEngine(script, tokenizer))
    runner = RolloutRunner(agent, RolloutConfig(group_size=2, rule=ArpoRuleConfig()))
    texts = {t.task.id: [n.text for n in t.nodes[1:]] async for t in runner.sample(tasks[:2], seed=0)}
    assert texts["t1"] == ["abc", "abc"]
    assert texts["t0"] == ["<search>ab</search>", " <result>\nba\n</result>", "<answer>ab</answer>"] * 2
