"""Scoring beside the loop: what it gives is what scoring at once gives, and nothing waits for it."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from arpo.errors import ConfigError, EngineError
from arpo.rewards.build import build_reward, build_scorer
from arpo.rewards.config import RewardConfig
from arpo.rewards.graders import GRADERS
from arpo.rewards.scoring import Scorer, mean_scores, rewards_of, score_tree
from arpo.tree import NodeKind, RolloutTree, Trajectory
from arpo.types import Message, Parse, Reward, Task


def make_tree(task_id: str, *answers: str) -> RolloutTree:
    task = Task(id=task_id, messages=(Message(role="user", content=f"q {task_id}"),), references=("Kelford",), source="test")
    tree = RolloutTree.from_prompt(task, [1])
    for i, answer in enumerate(answers):
        parse = Parse(answer=f"\\boxed{{{answer}}}", num_think_blocks=1)
        tree.append(tree.root, NodeKind.COMPLETION, [i + 2], text=answer, parse=parse)
    return tree


async def grow(*trees: RolloutTree, closed: list[str] | None = None) -> AsyncGenerator[RolloutTree, None]:
    try:
        for tree in trees:
            await asyncio.sleep(0)
            yield tree
    finally:
        if closed is not None:
            closed.append("closed")


async def collect(scorer: Scorer, grown: AsyncGenerator[RolloutTree, None]) -> list[RolloutTree]:
    async with aclosing(scorer.scored(grown)) as scored:
        return [tree async for tree in scored]


def judged(url: str, **settings: Any) -> RewardConfig:
    http = {"max_retries": 0, "timeout_s": 5.0}
    return RewardConfig.model_validate({"judge": {"base_url": f"{url}/v1", "model": "m", "http": http} | settings})


async def test_it_gives_what_scoring_at_once_gives():
    names = [("Kelford", "Kelford town"), ("Ada",), ("Kelford",)]
    alone = [make_tree(str(i), *answers) for i, answers in enumerate(names)]
    for tree in alone:
        score_tree(tree, build_reward(RewardConfig()))
    scorer = build_scorer(RewardConfig())
    trees = await collect(scorer, grow(*(make_tree(str(i), *answers) for i, answers in enumerate(names))))
    assert {t.task.id: rewards_of([t]) for t in trees} == {t.task.id: rewards_of([t]) for t in alone}
    await scorer.aclose()


async def test_a_slow_reward_does_not_hold_up_the_loop():
    """The reward waits for what only the loop can do; computed in the loop, it would wait in vain."""
    loop, free = asyncio.get_running_loop(), threading.Event()

    def slow(trajectory: Trajectory) -> Reward:
        loop.call_soon_threadsafe(free.set)
        return Reward(value=1.0 if free.wait(20) else 0.0)

    scorer = Scorer(slow)
    (tree,) = await collect(scorer, grow(make_tree("a", "x")))
    assert tree.leaves()[0].reward.value == 1.0
    await scorer.aclose()


async def test_trees_are_judged_while_others_grow(serve, replies):
    """The first verdict comes only when the second tree's answer was asked about, the trees coming one after the other."""
    both = asyncio.Event()

    async def wait_for_both(request: Any, writer: asyncio.StreamWriter) -> None:
        if len(server.received) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 20)
        text = request.json()["messages"][0]["content"]
        verdict = "Correct" if "Kelford\n</answer_to_judge>" in text else "Incorrect"
        await replies.reply(200, {"choices": [{"message": {"content": verdict}, "finish_reason": "stop"}]})(request, writer)

    server = await serve(wait_for_both)
    scorer = build_scorer(judged(server.url))
    trees = await collect(scorer, grow(make_tree("a", "Kelford"), make_tree("b", "town")))
    a, b = (found.leaves()[0].reward for found in sorted(trees, key=lambda t: t.task.id))
    assert (a.value, a.is_correct, a.components["judge"], a.reason) == (1.0, True, 1.0, "judged correct")
    assert (b.value, b.is_correct, b.components["grade"]) == (0.0, False, 0.0)
    assert mean_scores(rewards_of(trees))["accuracy"] == 0.5
    await scorer.aclose()


async def test_the_verdict_takes_the_place_of_f1(serve, replies):
    """F1 of `Kelford town` is 2/3, of `Keltic` 0: by the verdict both are right, and both disagree with the rules."""
    server = await serve(replies.reply(200, {"choices": [{"message": {"content": "Correct"}}]}))
    scorer = build_scorer(judged(server.url))
    (tree,) = await collect(scorer, grow(make_tree("a", "Kelford town", "Keltic", "Kelford")))
    assert [(reward.value, reward.is_correct) for reward in rewards_of([tree])] == [(1.0, True)] * 3
    assert [reward.components["exact_match"] for reward in rewards_of([tree])] == [0.0, 0.0, 1.0], "measured beside it as ever"
    assert [reward.components["rule_grade"] for reward in rewards_of([tree])] == pytest.approx([2 / 3, 0.0, 1.0])
    counts = scorer.drain_judge_counts()
    assert counts is not None
    assert (counts.answers, counts.disagreements, counts.disagreement_rate) == (3, 2, pytest.approx(2 / 3))
    await scorer.aclose()


async def test_an_answer_without_a_verdict_is_ungraded_and_in_no_mean(serve, replies):
    async def handle(request: Any, writer: asyncio.StreamWriter) -> None:
        is_ada = "Ada\n</answer_to_judge>" in request.json()["messages"][0]["content"]
        body = {"choices": [{"message": {"content": "who knows" if is_ada else "Correct"}}]}
        await replies.reply(200, body)(request, writer)

    server = await serve(handle)
    scorer = build_scorer(judged(server.url))
    (tree,) = await collect(scorer, grow(make_tree("a", "Kelford", "Ada")))
    right, unknown = tree.leaves()
    assert (right.reward.value, right.ungraded) == (1.0, "")
    assert (unknown.reward, unknown.is_correct) == (None, None)
    assert unknown.ungraded == "the judge said neither Correct nor Incorrect: 'who knows'"
    assert rewards_of([tree]) == [right.reward]
    assert mean_scores(rewards_of([tree]))["accuracy"] == 1.0
    metrics = scorer.drain_judge_metrics()
    assert (metrics["judge/answers"], metrics["judge/ungraded"], metrics["judge/correct_rate"]) == (2, 1, 1.0)
    await scorer.aclose()


async def test_further_measures_stand_beside_the_reward():
    scorer = build_scorer(RewardConfig(), measures={"substring": GRADERS["substring"]})
    (tree,) = await collect(scorer, grow(make_tree("a", "Kelford town")))
    (reward,) = rewards_of([tree])
    assert reward.value == pytest.approx(2 / 3)
    assert (reward.components["substring"], reward.components["exact_match"]) == (1.0, 0.0)
    assert (reward.is_correct, reward.reason) == (True, "contains 'Kelford'"), "the last of them says what is right"
    await scorer.aclose()


async def test_errors_of_the_reward_and_of_the_growth_come_out_and_close_the_growth():
    def broken(trajectory: Trajectory) -> Reward:
        raise ConfigError("no number")

    closed: list[str] = []
    scorer = Scorer(broken)
    with pytest.raises(ConfigError, match="no number"):
        await collect(scorer, grow(make_tree("a", "x"), closed=closed))

    async def failing() -> AsyncGenerator[RolloutTree, None]:
        yield make_tree("a", "x")
        raise EngineError("lost")

    good = build_scorer(RewardConfig())
    with pytest.raises(EngineError, match="lost"):
        await collect(good, failing())
    assert closed == ["closed"]
    await scorer.aclose()
    await good.aclose()


async def test_who_stops_reading_closes_the_growth():
    closed: list[str] = []
    scorer = build_scorer(RewardConfig())
    async with aclosing(scorer.scored(grow(*(make_tree(str(i), "x") for i in range(50)), closed=closed))) as scored:
        async for _ in scored:
            break
    assert closed == ["closed"]
    await scorer.aclose()


@pytest.mark.parametrize("rule", ["arpo_released", "my.module:reward"])
def test_a_judge_without_effect_is_refused(rule: str):
    with pytest.raises(ValueError, match="judge has no effect with rule"):
        RewardConfig.model_validate({"rule": rule, "judge": {"base_url": "http://x/v1", "model": "m"}})


def test_a_judge_beside_ones_own_function_is_refused():
    config = RewardConfig.model_validate({"judge": {"base_url": "http://x/v1", "model": "m"}})
    with pytest.raises(ConfigError, match="uses no grade"):
        build_scorer(config, lambda trajectory: Reward(value=1.0))
