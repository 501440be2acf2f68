"""Reinforcement learning: tasks -> trees (scored as they finish) -> advantages -> batch -> update -> weights -> metrics."""

import asyncio
import errno
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedModel

from arpo.batching.policy_batch import make_policy_batches
from arpo.config import dump_config
from arpo.data.tasks import read_tasks, report_bad_rows
from arpo.errors import RunError
from arpo.inference.build import build_engine, engine_dtype
from arpo.models.attention import use_layout_attention
from arpo.models.loading import load_policy
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.base import RewardFn
from arpo.rewards.build import build_reward
from arpo.rewards.scoring import mean_scores, score_tree
from arpo.rollout.build import build_agent, build_executor
from arpo.rollout.config import NoBranchingConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.rollout.seeds import derive_seed
from arpo.tools.base import Tool
from arpo.tracking import Tracker, read_metrics
from arpo.tracking.progress import Phase, Progress, SilentProgress
from arpo.tracking.run_directory import RunDirectory
from arpo.training.checkpoint import Checkpoints, TrainerState
from arpo.training.config import RlRun, ValidationConfig
from arpo.training.credit import assign_credit, has_signal
from arpo.training.measure import measure_rollout
from arpo.training.optimizer import build_optimizer, scheduled_rate, take_update
from arpo.training.probe import check_agreement
from arpo.training.task_order import TaskOrder
from arpo.training.update import UpdateTotals, accumulate_gradients, old_logprobs
from arpo.tree import RolloutTree, write_trees
from arpo.types import Task


def train_rl(
    config: RlRun,
    progress: Progress | None = None,
    resume: bool = False,
    *,
    reward_fn: RewardFn | None = None,
    tools: Mapping[str, Tool] | None = None,
) -> dict[str, Any]:
    """Train a policy and return the run's summary, which `<out>/summary.json` holds too.

    Args:
        config: The run. With `resume` it should be the one the run directory holds.
        progress: Where phases are reported; None reports nothing.
        resume: Go on from the newest checkpoint in `config.out`, or from the start when there is none yet. On a CPU the result
            is bit-identical to a run that was never stopped.
        reward_fn: Your own reward; None builds the configured one.
        tools: Tools of your own by name, besides the configured ones; `agent.protocol.tools` must name them.

    Raises:
        ConfigError, DataError, ModelError, ToolError: what is configured cannot be used; see each message.
        RunError: the run directory is in use, or holds a run and `resume` is False; or the disk is full.
        EngineError: the engine failed twice on every tree of a step; single trees it fails on, and those of prompts that leave
            no room, are reported and counted as `rollout/dropped_trees`.
        CheckpointError: a checkpoint could not be written or read.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    trainer_parts = (progress or SilentProgress(), reward_fn or build_reward(config.reward), dict(tools or {}))
    try:
        with RunDirectory.open(config.out) if resume else RunDirectory.create(config.out) as run, asyncio.Runner() as loop:
            trainer = RLTrainer(config, run, *trainer_parts)
            if not resume:
                run.write_text("config.toml", dump_config(config))
            return loop.run(trainer.train())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{config.out}: no space left on the device; what was written stays whole. "
            f"Free some space, then go on with `arpo train --resume {config.out}`"
        ) from error


class RLTrainer:
    """Trains one policy in one run directory; `step` reads as its phases."""

    def __init__(self, config: RlRun, run: RunDirectory, progress: Progress, reward_fn: RewardFn, tools: dict[str, Tool]):
        self.state = TrainerState()
        self._config = config
        self._run = run
        self._progress = progress
        self._reward_fn = reward_fn
        self._own_tools = tools
        self._order = TaskOrder(_read_tasks(config.tasks, progress), config.tasks_per_step, config.seed)
        tokenizer = PolicyTokenizer.load(config.model.path)
        model = load_policy(config.model.path, config.model.dtype, config.model.device)
        self._model: PreTrainedModel = use_layout_attention(model)
        self._optimizer = build_optimizer(self._model, config.optimizer)
        longest = config.agent.limits.max_trajectory_tokens
        self._engine = build_engine(config.engine, config.model, tokenizer, max_tokens=longest, model=self._model)
        self._agent = build_agent(config.agent, self._engine, tokenizer, extra_tools=tools)
        self._runner = RolloutRunner(self._agent, config.rollout)
        self._validation = _Validation(config.validation, self, progress) if config.validation else None
        self._checkpoints = Checkpoints(run.path, config.model.path, config.checkpoint.keep)
        self._resume()
        self._tracker = Tracker(run.path, config.tracking, config.model_dump(mode="json"))

    def _resume(self) -> None:
        """Go to the newest checkpoint of the run directory, if it holds one."""
        newest = self._checkpoints.newest()
        if newest is not None:
            self.state = self._checkpoints.load(newest, self._model, self._optimizer)
            self._engine.load_weights(None, version=self.state.update)
            self._point_links()
            self._progress.line(f"resuming after step {self.state.step}")

    async def train(self) -> dict[str, Any]:
        """Run the steps that are left; return the summary."""
        config = self._config
        prompt = self._agent.protocol.encode_prompt(self._order.step(0)[0])
        computes_in = engine_dtype(config.engine, config.model)
        await check_agreement(self._model, self._engine, prompt, config.rollout.temperature, computes_in)
        try:
            with self._tracker, self._progress.phase("train", config.num_steps, "step") as phase:
                self._tracker.truncate_after(self.state.step)
                phase.advance(self.state.step)
                while self.state.step < config.num_steps:
                    metrics = await self.step(self.state.step)
                    await self._validate(metrics)
                    self._tracker.log(self.state.step, metrics)
                    self._checkpoint()
                    _show(phase, metrics)
        finally:
            await self._engine.aclose()
            await self._agent.executor.aclose()
            if self._validation is not None:
                await self._validation.aclose()
        summary = self._summarize()
        self._run.write_json("summary.json", summary)
        return summary

    async def step(self, step: int) -> dict[str, float]:
        """One step, counted from 0; returns its metrics."""
        started = time.perf_counter()
        tasks = self._order.step(step)
        trees, num_dropped = await self._grow(tasks, derive_seed(self._config.seed, "rollout", step))
        grown = time.perf_counter()
        train_metrics = self._update(trees)
        updated = time.perf_counter()
        self._engine.load_weights(None, version=self.state.update)
        self.state.step = step + 1
        self._save_trees(trees)
        ended = time.perf_counter()
        rollout_metrics = measure_rollout(
            trees,
            self._agent.executor.take_counts(),
            window=self._config.rollout.entropy_window,
            num_dropped=num_dropped,
            seconds=grown - started,
        )
        times = {"time/step_s": ended - started, "time/grow_s": grown - started, "time/update_s": updated - grown}
        return rollout_metrics | train_metrics | times

    async def _grow(self, tasks: Sequence[Task], seed: int) -> tuple[list[RolloutTree], int]:
        """The trees of some tasks in their order, each scored while others still grow, and how many were lost.

        Raises:
            EngineError, DataError: every tree was lost, so that the step has nothing to learn from; the last one's error.
        """
        trees: dict[str, RolloutTree] = {}
        lost: list[TreeFailure] = []

        def report(failure: TreeFailure) -> None:
            self._progress.line(str(failure))
            if failure.is_dropped:
                lost.append(failure)

        async for tree in self._runner.grow(tasks, seed=seed, on_failure=report):
            score_tree(tree, self._reward_fn)
            trees[tree.task.id] = tree
        if lost and not trees:
            error = lost[-1].error
            raise type(error)(f"step {self.state.step + 1}: every tree was lost; the last error: {error}") from error
        return [trees[task.id] for task in tasks if task.id in trees], len(lost)

    def _update(self, trees: list[RolloutTree]) -> dict[str, float]:
        """Assign credit, then one optimizer update per mini-batch of trees; groups without signal are not computed."""
        config, totals = self._config, UpdateTotals()
        denominators, minibatches = [], []
        ends = [i * len(trees) // config.updates_per_step for i in range(config.updates_per_step + 1)]
        for start, end in pairwise(ends):
            part = trees[start:end]
            denominators.append(assign_credit(part, config.advantage, config.loss))
            useful = [tree for tree in part if has_signal(tree)]
            batches = make_policy_batches(useful, config.max_batch_tokens)
            minibatches.append([batch.to(self._model.device) for batch in batches])
        temperature = config.rollout.temperature
        several = len(minibatches) > 1
        old = [old_logprobs(self._model, batches, temperature) if several else None for batches in minibatches]
        rate = 0.0
        for batches, before, denominator in zip(minibatches, old, denominators, strict=True):
            rate = scheduled_rate(config.optimizer, self.state.update, config.num_steps * config.updates_per_step)
            if batches:
                accumulate_gradients(self._model, batches, before, denominator, config.loss, temperature, totals)
                totals.grad_norms.append(take_update(self._optimizer, rate, config.optimizer.max_grad_norm))
            self.state.update += 1
        return _train_metrics(totals, trees, rate)

    async def _validate(self, metrics: dict[str, float]) -> None:
        """Validate when due, add the metrics, remember the best."""
        config, state = self._config.validation, self.state
        if self._validation is None or config is None or not self._is_due(config.every):
            return
        started = time.perf_counter()
        found = await self._validation.run()
        metrics.update({f"valid/{name}": value for name, value in found.items()})
        metrics["time/validate_s"] = time.perf_counter() - started
        if state.best_accuracy is None or found["accuracy"] > state.best_accuracy:
            state.best_step, state.best_accuracy = state.step, found["accuracy"]

    def _checkpoint(self) -> None:
        """Write a checkpoint when one is due or the validation was the best so far."""
        state = self.state
        is_best = state.best_step == state.step
        if self._is_due(self._config.checkpoint.every) or is_best:
            self._checkpoints.save(self._model, self._optimizer, state)
            self._point_links()

    def _point_links(self) -> None:
        """Point `best` and `final` at their checkpoints; again on resumption, as a kill may have come between."""
        state = self.state
        best = state.step if self._validation is None else state.best_step
        if best is not None:
            self._checkpoints.link("best", best)
        if state.step == self._config.num_steps:
            self._checkpoints.link("final", state.step)

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self._config.num_steps

    def _save_trees(self, trees: list[RolloutTree]) -> None:
        every = self._config.rollouts_every
        if every and (self.state.step % every == 0 or self.state.step == 1):
            write_trees(self._run.rollouts_path(self.state.step), trees)

    def _summarize(self) -> dict[str, Any]:
        """Figures of the whole run, from its metrics file, so that a resumed run counts as one."""
        rows = read_metrics(self._run.path)

        def total(name: str) -> float:
            return sum(row.get(name, 0.0) for row in rows)

        def mean(name: str) -> float:
            return fmean(row.get(name, 0.0) for row in rows)

        return {
            "algorithm": self._config.algorithm,
            "seed": self._config.seed,
            "num_steps": self.state.step,
            "best_step": self.state.best_step or self.state.step,
            "best_accuracy": self.state.best_accuracy,
            "entropy_after_tool": mean("rollout/entropy_after_tool"),
            "entropy_elsewhere": mean("rollout/entropy_elsewhere"),
            "branch_rate": total("rollout/num_branches") / max(1.0, total("rollout/num_opportunities")),
            "leaves_per_group": mean("rollout/leaves_per_group"),
            "dropped_trees": int(total("rollout/dropped_trees")),
            "tool_calls_issued": int(total("rollout/tool_calls_issued")),
            "tool_calls_executed": int(total("rollout/tool_calls_executed")),
            "tokens_sampled": int(total("rollout/tokens_sampled")),
            "tokens_trained_unique": int(total("train/tokens_unique")),
            "tokens_trained_total": int(total("train/tokens_total")),
            "seconds": {
                "grow": total("time/grow_s"),
                "update": total("time/update_s"),
                "validate": total("time/validate_s"),
                "total": total("time/step_s") + total("time/validate_s"),
            },
        }


class _Validation:
    """Greedy answers to fixed tasks by the policy in training."""

    def __init__(self, config: ValidationConfig, trainer: RLTrainer, progress: Progress):
        self._tasks = _read_tasks(config.tasks, progress)[: config.num_tasks]
        self._reward_fn = trainer._reward_fn
        agent, training = trainer._agent, trainer._config
        self._own_executor = None
        if config.tools is not None:
            offered = training.agent.protocol.tools
            self._own_executor = build_executor(config.tools, offered, agent.tokenizer, extra_tools=trainer._own_tools)
            agent = replace(agent, executor=self._own_executor)
        self._agent = agent
        greedy = RolloutConfig(
            group_size=1, rule=NoBranchingConfig(), temperature=0, deterministic=training.rollout.deterministic
        )
        self._runner = RolloutRunner(agent, greedy)

    async def run(self) -> dict[str, float]:
        """Mean scores, tool calls per task and the number of tasks."""
        self._agent.executor.take_counts()
        trees: dict[str, RolloutTree] = {}
        async for tree in self._runner.grow(self._tasks, seed=0):
            score_tree(tree, self._reward_fn)
            trees[tree.task.id] = tree
        scores = mean_scores([trees[task.id] for task in self._tasks])
        calls = self._agent.executor.take_counts().issued / len(self._tasks)
        return scores | {"tool_calls_per_task": calls, "num_tasks": len(self._tasks)}

    async def aclose(self) -> None:
        """Close the tools that are its own."""
        if self._own_executor is not None:
            await self._own_executor.aclose()


def _read_tasks(path: Path, progress: Progress) -> list[Task]:
    file = read_tasks(path)
    report_bad_rows(file.bad_rows, progress)
    return list(file.tasks)


def _train_metrics(totals: UpdateTotals, trees: Sequence[RolloutTree], rate: float) -> dict[str, float]:
    useful = [tree for tree in trees if has_signal(tree)]
    per_target = 1 / max(1, totals.num_targets)
    return {
        "train/loss": totals.loss / max(1, len(totals.grad_norms)),
        "train/grad_norm": fmean(totals.grad_norms) if totals.grad_norms else 0.0,
        "train/learning_rate": rate,
        "train/clip_fraction_low": totals.clipped_low * per_target,
        "train/clip_fraction_high": totals.clipped_high * per_target,
        "train/mismatch_kl": totals.mismatch_kl * per_target,
        "train/entropy": totals.entropy * per_target,
        "train/tokens_unique": totals.num_tokens,
        "train/tokens_total": sum(tree.num_trajectory_tokens for tree in useful),
        "train/groups_without_signal": len(trees) - len(useful),
        "train/groups": len(trees),
    }


def _show(phase: Phase, metrics: Mapping[str, float]) -> None:
    """The live line of one step."""
    fields: dict[str, float | int | str] = {
        "reward": round(metrics["rollout/reward_mean"], 3),
        "accuracy": round(metrics["rollout/accuracy"], 3),
        "H_tool": round(metrics["rollout/entropy_after_tool"], 3),
        "H_else": round(metrics["rollout/entropy_elsewhere"], 3),
        "branches": int(metrics["rollout/num_branches"]),
        "calls": f"{metrics['rollout/tool_calls_issued']:.0f}/{metrics['rollout/tool_calls_executed']:.0f}",
        "tok/s": int(metrics["rollout/tokens_per_s"]),
    }
    if "valid/accuracy" in metrics:
        fields["valid"] = round(metrics["valid/accuracy"], 3)
    phase.advance(1, **fields)
