"""Validation during training."""

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from arpo.rewards.scoring import Scorer, mean_scores, rewards_of
from arpo.rollout.agent import Agent
from arpo.rollout.config import NoBranchingConfig, RolloutConfig
from arpo.rollout.environment import Environment
from arpo.rollout.runner import RolloutRunner
from arpo.training.checkpoint import TrainerState
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
    ):
        """A validation.

        Args:
            agent: The policy in its environment.
            tasks: Questions.
            scorer: Scores the answers meanwhile.
            environment: Environment of the validation alone, closed with it; None: the agent's.
            deterministic: As `rollout.deterministic`.
            every: Steps between validations.
        """
        self._environment = environment
        self._agent = agent if environment is None else replace(agent, environment=environment)
        self._tasks = tasks
        self._scorer = scorer
        self._every = every
        greedy = RolloutConfig(group_size=1, rule=NoBranchingConfig(), temperature=0, deterministic=deterministic)
        self._runner = RolloutRunner(self._agent, greedy)

    async def run_if_due(self, state: TrainerState, num_steps: int) -> dict[str, float]:
        """The `valid/` metrics where a validation is due after `state.step`, else none; updates the best step in `state`."""
        if not state.is_due(self._every, num_steps):
            return {}
        started = time.perf_counter()
        scores = await self.run()
        if state.best_accuracy is None or scores["accuracy"] > state.best_accuracy:
            state.best_step, state.best_accuracy = state.step, scores["accuracy"]
        seconds = time.perf_counter() - started
        return {f"valid/{name}": value for name, value in scores.items()} | {"time/validate_s": seconds}

    async def run(self) -> dict[str, float]:
        """Mean scores, tool calls per task and the number of tasks."""
        self._agent.environment.drain_metrics()
        trees: dict[str, RolloutTree] = {}
        async with aclosing(self._scorer.scored(self._runner.sample(self._tasks, seed=0))) as scored:
            async for tree in scored:
                trees[tree.task.id] = tree
        self._scorer.drain_judge_metrics()  # no metrics of a step
        scores = mean_scores(rewards_of(trees[task.id] for task in self._tasks))
        calls = self._agent.environment.drain_metrics().get("rollout/tool_calls_issued", 0.0)
        return scores | {"tool_calls_per_task": calls / len(self._tasks), "num_tasks": len(self._tasks)}

    async def aclose(self) -> None:
        """Close its environment."""
        if self._environment is not None:
            await self._environment.aclose()
