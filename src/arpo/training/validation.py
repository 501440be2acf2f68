"""Validation during training."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from statistics import fmean

from arpo.distributed.world import ALONE, World
from arpo.rewards.scoring import Scorer, mean_components, mean_scores, rewards_of
from arpo.rollout.agent import Agent
from arpo.rollout.config import NoBranchingConfig, RolloutConfig
from arpo.rollout.environment import Environment
from arpo.rollout.runner import RolloutRunner
from arpo.training.checkpoint import TrainerState
from arpo.training.trajectory_metrics import is_truncated
from arpo.tree import RolloutTree
from arpo.types import Task


class Validation:
    """Greedy answers to fixed tasks by the policy in training."""

    def __init__(
        self,
        agent: Agent,
        tasks: Sequence[Task],
        scorer: Scorer,
        *,
        environment: Environment | None,
        deterministic: bool,
        every: int,
        world: World = ALONE,
    ):
        """A validation.

        Args:
            agent: The policy in its environment.
            tasks: Questions.
            scorer: Scores the answers meanwhile.
            environment: Environment of the validation alone, closed with it; None: the agent's.
            deterministic: As `rollout.deterministic`.
            every: Steps between validations.
            world: Ranks that share the tasks.
        """
        self._environment = environment
        self._agent = agent if environment is None else replace(agent, environment=environment)
        self._tasks = tasks
        self._scorer = scorer
        self._every = every
        self._world = world
        greedy = RolloutConfig(group_size=1, rule=NoBranchingConfig(), temperature=0, deterministic=deterministic)
        self._runner = RolloutRunner(self._agent, greedy)

    async def run_if_due(self, state: TrainerState, num_steps: int) -> dict[str, float]:
        """The `valid/` metrics where a validation is due after `state.step`, else none; updates the best step in `state`."""
        if not state.is_due(self._every, num_steps):
            return {}
        started = time.perf_counter()
        scores = await self.run()
        _note_best(state, scores)
        seconds = time.perf_counter() - started
        return {f"valid/{name}": value for name, value in scores.items()} | {"time/validate_s": seconds}

    async def run(self) -> dict[str, float]:
        """Mean scores, also of each source where there are several, reward components, lengths and the number of tasks."""
        self._agent.environment.drain_metrics()
        own: list[RolloutTree] = []
        async with aclosing(self._scorer.scored(self._runner.sample(self._world.share(self._tasks), seed=0))) as scored:
            async for tree in scored:
                own.append(tree)
        trees = {tree.task.id: tree for of_rank in self._world.gather(own) for tree in of_rank}
        self._scorer.drain_judge_metrics()  # no metrics of a step
        asked = [trees[task.id] for task in self._tasks]
        trajectories = [trajectory for tree in asked for trajectory in tree.trajectories()]
        calls = self._agent.environment.drain_metrics(self._world.gather).get("rollout/tool_calls_issued")
        return {
            **mean_scores(rewards_of(asked)),
            **{f"reward/{name}": value for name, value in mean_components(rewards_of(asked)).items()},
            **_by_source(asked),
            **({} if calls is None else {"tool_calls_per_task": calls / len(self._tasks)}),
            "response_length_mean": fmean(trajectory.num_sampled_tokens for trajectory in trajectories),
            "truncated_rate": fmean(map(is_truncated, trajectories)),
            "num_tasks": len(self._tasks),
        }

    async def aclose(self) -> None:
        """Close its environment."""
        if self._environment is not None:
            await self._environment.aclose()


def _note_best(state: TrainerState, scores: Mapping[str, float]) -> None:
    """Note the best step by accuracy, and by mean reward as long as no answer has been graded; the first of equal ones."""
    accuracy = scores.get("accuracy")
    if accuracy is not None and (state.best_accuracy is None or accuracy > state.best_accuracy):
        state.best_step, state.best_accuracy, state.best_reward = state.step, accuracy, None
    reward = scores["reward_mean"] if accuracy is None and state.best_accuracy is None else None
    if reward is not None and (state.best_reward is None or reward > state.best_reward):
        state.best_step, state.best_reward = state.step, reward


def _by_source(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """`source/<name>/<score>` of the tasks of each source, where there are several.

    Example: source `openai/gsm8k`: {"source/openai_gsm8k/accuracy": 0.5, ..., "source/openai_gsm8k/num_tasks": 4}.
    """
    sources: dict[str, list[RolloutTree]] = {}
    for tree in trees:
        sources.setdefault(_NO_NAME.sub("_", tree.task.source) or "_", []).append(tree)
    if len(sources) < 2:
        return {}
    return {
        f"source/{source}/{name}": value
        for source, of_source in sources.items()
        for name, value in (mean_scores(rewards_of(of_source)) | {"num_tasks": len(of_source)}).items()
    }


_NO_NAME = re.compile(r"[^\w.-]")
"""What cannot stand in a part of a metric's name."""
