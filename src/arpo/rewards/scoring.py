"""Writes rewards on the leaves of finished trees, in a thread beside the event loop that samples others."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from statistics import fmean
from typing import TypeVar

from arpo.clients.concurrency import first_error, stream
from arpo.errors import ConfigError
from arpo.ranks import Gather, alone
from arpo.rewards.base import GradedRewardFn, RewardFn
from arpo.rewards.grading import Grade, Grader
from arpo.rewards.judge.counts import JudgeCounts, judge_metrics, sum_counts
from arpo.rewards.judge.judge import Judge, Verdict
from arpo.rewards.measure import ask_reward
from arpo.tree import RolloutTree, Trajectory
from arpo.types import Reward

T = TypeVar("T")
NO_REWARD = "the reward function returned None"
"""Why an answer is ungraded that a function of your own gave no reward."""


class Scorer:
    """Scores finished trees while others are sampled.

    Rewards are computed in one thread, one tree after the other: a slow formula, or your own function, does not block the event
    loop, and your function never runs twice at once. A judge is awaited; it judges leaves and trees concurrently, within its
    limit. The score of a tree depends on none of this.

    Every reward has `Reward.is_correct` and the components of `rewards.measure`; the scorer adds those that the reward function
    omits. Where the judge gives no verdict, or your function gives None, the leaf is *ungraded*: its reward is None, and
    `Node.ungraded` has the reason.

    Example:
        async with aclosing(scorer.scored(runner.sample(tasks, seed=0))) as trees:
            async for tree in trees: ...
    """

    def __init__(
        self, reward_fn: RewardFn, *, judge: Judge | None = None, measures: Mapping[str, Grader] | None = None
    ) -> None:
        """A scorer.

        Args:
            reward_fn: Scores a trajectory.
            judge: Grades answers in place of the reward's grader; closed with the scorer. None: no judge.
            measures: Further graders; the score of each is a component by its name. Without a judge, the last one decides
                whether the answer is right.

        Raises:
            ConfigError: there is a judge, but the reward uses no grade.
        """
        if judge is not None and not isinstance(reward_fn, GradedRewardFn):
            raise ConfigError(f"reward.judge has no effect on the reward {reward_fn!r}, which uses no grade; remove it")
        self._reward_fn = reward_fn
        self._judge = judge
        self._measures = measures or {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")

    def scored(self, sampled: AsyncGenerator[RolloutTree, None]) -> AsyncGenerator[RolloutTree, None]:
        """Yield the trees of `sampled`, each once it is scored; meanwhile more are sampled.

        A consumer that may stop early wraps the generator in `contextlib.aclosing`, which then closes `sampled` as well.
        """
        return stream(lambda on_scored: self._score_all(sampled, on_scored))

    async def score(self, tree: RolloutTree) -> None:
        """Write the reward on every leaf, or why it has none.

        Raises:
            ConfigError: your function raised, or returned neither a reward nor None.
        """
        trajectories = tree.trajectories()
        grades = [None] * len(trajectories) if self._judge is None else await self._judge_all(self._judge, trajectories)
        rewards = await self._run(lambda: [self._reward(t, g) for t, g in zip(trajectories, grades, strict=True)])
        for trajectory, reward in zip(trajectories, rewards, strict=True):
            leaf = trajectory.leaf
            leaf.reward, leaf.ungraded = (reward, "") if isinstance(reward, Reward) else (None, reward.reason)

    def drain_judge_counts(self, gather: Gather = alone) -> JudgeCounts | None:
        """The judge's counts since the last call, of all processes whose counts `gather` gives; None without a judge."""
        return sum_counts(gather(self._judge.drain_counts())) if self._judge is not None else None

    def drain_judge_metrics(self, gather: Gather = alone) -> dict[str, float]:
        """These counts as the `judge/` metrics of a step; empty without a judge."""
        counts = self.drain_judge_counts(gather)
        return judge_metrics(counts) if counts is not None else {}

    async def aclose(self) -> None:
        """Close the judge and the thread."""
        if self._judge is not None:
            await self._judge.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _score_all(self, sampled: AsyncGenerator[RolloutTree, None], on_scored: Callable[[RolloutTree], None]) -> None:
        """Score each tree in an asyncio task; the first error ends the other tasks and closes `sampled`."""

        async def score(tree: RolloutTree) -> None:
            await self.score(tree)
            on_scored(tree)

        async with aclosing(sampled):
            with first_error():
                async with asyncio.TaskGroup() as trees:
                    async for tree in sampled:
                        trees.create_task(score(tree))

    async def _judge_all(self, judge: Judge, trajectories: Sequence[Trajectory]) -> list[Grade | Verdict]:
        assert isinstance(self._reward_fn, GradedRewardFn)
        grader = [self._reward_fn.grader, *self._measures.values()][-1]
        by_rules = await self._run(lambda: [grader(t) for t in trajectories])
        return await asyncio.gather(*(judge.grade(t, g) for t, g in zip(trajectories, by_rules, strict=True)))

    def _reward(self, trajectory: Trajectory, judged: Grade | Verdict | None) -> Reward | Verdict:
        """The reward with the further measures; a verdict without a grade as it is."""
        if isinstance(judged, Verdict):
            return judged
        reward = ask_reward(self._reward_fn, trajectory, *(() if judged is None else (judged,)))
        if reward is None:
            return Verdict(is_correct=None, reason=NO_REWARD)
        for name, grader in self._measures.items():
            grade = grader(trajectory)
            reward = replace(reward, components={**reward.components, name: grade.score})
            if judged is None:
                reward = replace(reward, is_correct=grade.is_correct, reason=grade.reason)
        return reward

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def score_tree(tree: RolloutTree, reward_fn: RewardFn) -> None:
    """Write the reward on every leaf at once; raises as `rewards.measure.ask_reward`."""
    for trajectory in tree.trajectories():
        leaf = trajectory.leaf
        leaf.reward = ask_reward(reward_fn, trajectory)
        leaf.ungraded = NO_REWARD if leaf.reward is None else ""


def rewards_of(trees: Iterable[RolloutTree]) -> list[Reward]:
    """The rewards of the leaves of scored trees; an ungraded leaf has none."""
    return [leaf.reward for tree in trees for leaf in tree.leaves() if leaf.reward is not None]


def mean_scores(rewards: Sequence[Reward]) -> dict[str, float]:
    """Means over rewards: `reward_mean`, `accuracy`, `exact_match`, `f1`, `format_valid_rate`; those not measured are absent.

    `accuracy` is the share of right answers (`Reward.is_correct`) among those somebody graded; `exact_match` the share of boxed
    answers that equal a reference, whoever grades. A component that some rewards have counts as 0 in the others. Accuracy is
    not measured where no answer was graded, nor where exact match alone could grade and found nothing to compare: a reward of
    your own that is a number, and no boxed answer.

    Example: rewards of components {"f1": 1} and {}: `f1` is 0.5; without any `format`, no `format_valid_rate`.
    """
    scores = {"reward_mean": [reward.value for reward in rewards]}
    graded = [reward for reward in rewards if reward.is_correct is not None]
    if any(reward.is_correct or "exact_match" in reward.components for reward in graded):
        scores["accuracy"] = [float(bool(reward.is_correct)) for reward in graded]
    for component, score in _SCORES.items():
        if any(component in reward.components for reward in rewards):
            scores[score] = [reward.components.get(component, 0.0) for reward in rewards]
    return {name: fmean(values) for name, values in scores.items() if values}


_SCORES = {"exact_match": "exact_match", "f1": "f1", "format": "format_valid_rate"}
"""Component -> its score."""


def mean_components(rewards: Sequence[Reward]) -> dict[str, float]:
    """Mean of each component but those of `mean_scores`, by name, over the rewards that have it."""
    values: dict[str, list[float]] = {}
    for reward in rewards:
        for name, value in reward.components.items():
            if name not in _SCORES:
                values.setdefault(name, []).append(value)
    return {name: fmean(values[name]) for name in sorted(values)}
