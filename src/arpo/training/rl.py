"""Reinforcement learning: the collector samples and scores trees, the learner learns from them, the engine gets the weights."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from arpo.config import dump_config
from arpo.data.prompts import PromptCheck
from arpo.data.stored_tasks import StoredTasks, open_tasks
from arpo.data.tasks import count_questions, report_bad_rows
from arpo.distributed.world import ALONE, World, open_world, rank_device
from arpo.errors import ConfigError
from arpo.functions.run_functions import FunctionFiles, RunFunctions
from arpo.inference.build import PolicySource, build_engine
from arpo.inference.config import require_engine_of_rank
from arpo.models.device import settle_device
from arpo.models.process_memory import release_free_pages
from arpo.models.weights import ModelWeights
from arpo.protocols.config import ProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.base import RewardFn
from arpo.rewards.build import build_scorer, choose_reward
from arpo.rollout.build import Surroundings, build_executor
from arpo.rollout.runner import RolloutRunner
from arpo.tools.base import Tool
from arpo.tools.function import OwnTools, as_tools
from arpo.tracking import Tracker, read_metrics
from arpo.tracking.console import shown_progress
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import RunDirectory, how_to_go_on, name_full_disk
from arpo.training.checkpoint import Checkpoints, TrainerState
from arpo.training.collector import Collector
from arpo.training.config import RlRun
from arpo.training.inert_options import inert_terms
from arpo.training.learner import Learner
from arpo.training.memory_check import require_memory
from arpo.training.no_signal import MIN_STEPS, NoSignal, find_no_signal, is_reported, learned_nothing
from arpo.training.on_step import OnStep, StepReport, check_callback
from arpo.training.probe import check_agreement
from arpo.training.resumption import go_on
from arpo.training.run_models import find_models
from arpo.training.step_metrics import measure_memory, measure_rollout, measure_update_speed
from arpo.training.summary import broken_tools, live_line, summarize_run
from arpo.training.task_filter import TaskFilter
from arpo.training.task_order import TaskOrder
from arpo.training.task_outcomes import TaskOutcomes
from arpo.training.validation import Validation
from arpo.tree import RolloutTree, read_trees, write_trees


def train_rl(
    config: RlRun,
    progress: Progress | None = None,
    resume: bool = False,
    *,
    reward_fn: RewardFn | None = None,
    tools: OwnTools | None = None,
    on_step: OnStep | None = None,
    functions: FunctionFiles = "same",
) -> dict[str, Any]:
    """Train a policy; return the summary, as in `<out>/summary.json`, which is empty on other ranks than the first.

    Under torchrun every process calls it: they train one policy together, as one process would; rank 0 writes the run.

    Args:
        config: The run; with `resume`, that of the run directory, changed in nothing but what `go_on` allows.
        progress: Receives the phases; None shows them on standard error, `arpo.SilentProgress()` nowhere.
        resume: Go on from the newest checkpoint in `config.out`, or from the start when there is none yet. On a CPU the result
            is bit-identical to a run that was never stopped.
        reward_fn: Your own reward, a function of a Trajectory; None builds the configured one.
        tools: Tools of your own by name, or functions to make them of, besides the configured ones; `agent.protocol.tools`
            must name them.
        on_step: Called after each step on the first rank, once it is logged and its checkpoint is written; what it raises ends
            the run.
        functions: Where a resumed run takes the functions from that its configuration names.

    Raises:
        ConfigError, DataError, ModelError, ToolError: what is configured cannot be used; see each message.
        RunError: the run directory is in use, or holds a run and `resume` is False; a resumed run's functions have changed, or
            those given from Python are missing; the disk is full; or another rank was lost.
        EngineError, JudgeError: the engine failed twice on every tree of a step, or the judge on an answer of each; fewer
            such trees, and trees of prompts that leave no room, are dropped: reported and counted as `rollout/dropped_trees`.
        TrainingError: ten updates in a row had a gradient that is not finite.
        CheckpointError: a checkpoint could not be written or read.
    """
    progress = progress or shown_progress()
    if resume:
        config = go_on(config, progress.line)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    config = config.model_copy(update={"model": settle_device(config.model, progress.line)})
    require_engine_of_rank(config.engine)
    require_memory(config, progress.line)
    check_callback(on_step)
    own_tools = as_tools(tools)
    own = RunFunctions(config, resume=resume, files=functions, reward_fn=reward_fn, tools=own_tools)
    choose_reward(own.in_force(config).reward, reward_fn)  # its faults are found before anything is written
    with (
        open_world(config.distributed, config.model.device, lambda: how_to_go_on(config.out)) as world,
        name_full_disk(config.out),
        world.main_first(lambda: RunDirectory.open(config.out, "train") if resume else RunDirectory.create(config.out)) as run,
        asyncio.Runner() as loop,
    ):
        recorded, config = world.main_first(lambda: find_models(config, progress))
        if not recorded.model.path.is_dir():  # it came from the hub or a GGUF file just now
            require_memory(config, progress.line)
        device = rank_device(config.model.device)
        config = config.model_copy(update={"model": config.model.model_copy(update={"device": device})})
        trainer = RLTrainer(own.in_force(config), run, progress, reward_fn, own_tools, on_step, world)
        parts = config.algorithm, config.rollout, config.advantage, config.loss
        for line in [] if resume else inert_terms(*parts, config.has_moving_ratio):
            progress.line(line)
        if world.is_main:
            own.keep()
        run.write_text("config.toml", dump_config(recorded))  # again on resume: it may have got more steps
        return loop.run(trainer.train())


class RLTrainer:
    """Wires collector, learner, engine, validation and checkpoints of one run directory; `step` is one step of training."""

    def __init__(
        self,
        config: RlRun,
        run: RunDirectory,
        progress: Progress,
        reward_fn: RewardFn | None,
        tools: dict[str, Tool],
        on_step: OnStep | None,
        world: World = ALONE,
    ):
        self.state = TrainerState()
        self._world = world
        self._config = config
        self._run = run
        self._progress = progress
        self._on_step = on_step
        self._reported: Sequence[RolloutTree] = ()
        self._tasks = _open_tasks(config.tasks, config.agent.protocol, progress)
        order = TaskOrder(self._tasks, config.tasks_per_step, config.seed)
        if repeated := count_questions(len(order), order.num_questions):
            progress.line(f"tasks: {repeated}")
        self._first_task = order.take(0, 1)[0][0]
        tokenizer = PolicyTokenizer.load(config.model.path)
        longest = config.agent.limits.max_trajectory_tokens
        surroundings = Surroundings(config.agent, tokenizer, extra_tools=tools)
        self.learner = Learner(config, world)  # after tasks, tools and protocol: their faults are found sooner
        network = self.learner.policy.network
        policy = PolicySource(config=config.model, tokenizer=tokenizer, max_tokens=longest, model=network)
        self._engine = build_engine(config.engine, policy)
        if self._engine.notice:
            progress.line(self._engine.notice)
        self._agent = surroundings.agent(self._engine)
        self._scorer = build_scorer(config.reward, reward_fn)
        runner = RolloutRunner(self._agent, config.rollout)
        self._collector = Collector(
            runner, self._scorer, order, tasks_per_step=config.tasks_per_step,
            max_rounds=config.dynamic_sampling.max_rounds, seed=config.seed,
            report=progress.line, world=world,
        )  # fmt: skip
        self._validation = self._build_validation(tools)
        self._checkpoints = Checkpoints(run.path, config.model.path, config.checkpoint.keep, world)
        self._resume()
        most = order.num_questions - config.tasks_per_step
        self._outcomes = TaskOutcomes(self.state, counts=runner.uses_past_groups)
        self._filter = TaskFilter(config.task_filter.after, self.state, most=most, report=progress.line)
        self._tracker = Tracker(run.path, config.tracking, config.model_dump(mode="json"))
        self._last_tree: RolloutTree | None = None

    def _build_validation(self, tools: dict[str, Tool]) -> Validation | None:
        config = self._config.validation
        if config is None:
            return None
        executor = None
        if config.tools is not None:
            offered = self._config.agent.protocol.tools
            executor = build_executor(config.tools, offered, self._agent, extra_tools=tools)
        tasks = _open_tasks(config.tasks, self._config.agent.protocol, self._progress)[: config.num_tasks]
        deterministic = self._config.rollout.deterministic
        return Validation(
            self._agent, tasks, self._scorer, environment=executor, deterministic=deterministic, every=config.every,
            world=self._world,
        )  # fmt: skip

    def _resume(self) -> None:
        """Go to the newest checkpoint of the run directory, if it holds one."""
        newest = self._checkpoints.newest()
        if newest is not None:
            self.state = self._checkpoints.load(
                newest, self.learner.policy.network, self.learner.optimizer, self.learner.sharding
            )
            self.learner.go_on_from(self.state.update, self.state.skipped_updates)
            self.state.require_tasks(newest, self._tasks.digest)
            self._point_links()
            self._checkpoints.prune(self.state)
            done, wanted = self.state.step, self._config.num_steps
            if done > wanted:
                raise ConfigError(f"num_steps = {wanted}: {done} steps are done; set it to {done} or more")
            left = f"resuming after step {done}" if done < wanted else f"step {done} of {wanted} is done: nothing is left to do"
            remedy = "" if done < wanted else "; `arpo train --resume RUN --num_steps=N` trains longer"
            self._progress.line(left + remedy)

    async def train(self) -> dict[str, Any]:
        """Run the steps that are left; return the summary."""
        config = self._config
        prompt = self._agent.protocol.encode_prompt(self._first_task)
        computes_in = config.engine.computes_in(config.model.dtype)
        if self.state.step:
            await self._update_engine()
        await check_agreement(self.learner.policy, self._engine, prompt, computes_in)
        try:
            with self._tracker, self._progress.phase("train", config.num_steps, "step", self.state.step) as phase:
                self._tracker.truncate_after(self.state.step)
                recent = deque(read_metrics(self._run.path), maxlen=MIN_STEPS + 1)
                while self.state.step < config.num_steps:
                    metrics = await self.step()
                    if self._validation is not None:
                        metrics |= await self._validation.run_if_due(self.state, config.num_steps)
                    self._tracker.log(self.state.step, metrics)
                    self._checkpoint()
                    self._call_back(metrics)
                    phase.advance(1, **live_line(metrics))
                    recent.append({"step": self.state.step, **metrics})
                    if is_reported([*recent]) and self.state.step < config.num_steps:  # the end says it anyway
                        self._progress.line(self._find_no_signal([*recent]).describe())
        finally:
            await self._engine.aclose()
            await self._agent.environment.aclose()
            await self._scorer.aclose()
            if self._validation is not None:
                await self._validation.aclose()
        if not self._world.is_main:
            return {}
        rows = read_metrics(self._run.path)
        for line in broken_tools(rows):
            self._progress.line(line)
        no_signal = self._find_no_signal(rows) if learned_nothing(rows) else None
        if no_signal is not None:
            self._progress.line(no_signal.describe())
        summary = summarize_run(config, self.state, rows, no_signal)
        self._run.write_json("summary.json", summary)
        return summary

    async def step(self) -> dict[str, float]:
        """The next step: tasks, scored trees, update, weights to the engine; returns its metrics."""
        state, started = self.state, time.perf_counter()
        rollouts = await self._collector.collect(
            state.step, state.position, self._filter.filtered, self._outcomes.past_groups()
        )
        rollout_s = time.perf_counter() - started
        counted = self._agent.environment.drain_metrics(self._world.gather)
        metrics = measure_rollout(rollouts, counted, window=self._config.rollout.entropy_window, seconds=rollout_s)
        metrics |= self._filter.observe(rollouts.trees, rollouts.without_signal) | self._scorer.drain_judge_metrics(
            self._world.gather
        )
        metrics |= self._outcomes.observe(rollouts.trees)
        metrics |= self.learner.learn(rollouts.trained)
        release_free_pages()
        update_s = time.perf_counter() - started - rollout_s
        await self._update_engine()
        state.step, state.position, state.tasks_digest = state.step + 1, rollouts.position, self._tasks.digest
        state.update, state.skipped_updates = self.learner.num_updates, self.learner.skipped.num_in_a_row
        self._reported = rollouts.trees if self._on_step is not None else ()
        self._save_trees(rollouts.trees)
        self._last_tree = rollouts.trees[-1]
        step_s = time.perf_counter() - started
        metrics |= measure_update_speed(metrics, update_s) | measure_memory(self.learner.policy.device)
        return metrics | {"time/step_s": step_s, "time/rollout_s": rollout_s, "time/update_s": update_s}

    def _find_no_signal(self, rows: Sequence[Mapping[str, Any]]) -> NoSignal:
        """What the latest steps were like, which taught nothing; with a sample of the last step where it is at hand."""
        saved = self._run.rollouts_path(self.state.step)
        tree = self._last_tree or (list(read_trees(saved))[-1] if saved.is_file() else None)
        return find_no_signal(rows, group_size=self._config.rollout.group_size, tree=tree)

    async def _update_engine(self) -> None:
        """Hand the learner's weights to the engine."""
        await self._engine.update_weights(ModelWeights(self.learner.policy.network), self.learner.num_updates)

    def _checkpoint(self) -> None:
        """Write a checkpoint when one is due or the validation was the best so far."""
        state = self.state
        if state.is_due(self._config.checkpoint.every, self._config.num_steps) or state.best_step == state.step:
            is_linked = state.step in (self._best_step, self._config.num_steps)
            learner = self.learner
            self._checkpoints.save(learner.policy.network, learner.optimizer, state, learner.sharding, as_model=is_linked)
            self._point_links()

    def _call_back(self, metrics: Mapping[str, float]) -> None:
        if self._on_step is not None and self._world.is_main:
            step, num_steps = self.state.step, self._config.num_steps
            self._on_step(StepReport(step=step, num_steps=num_steps, metrics=metrics, trees=self._reported))
            self._reported = ()

    def _point_links(self) -> None:
        """Point `best` and `final` at their checkpoints; again on resumption, as a kill may have come between."""
        state = self.state
        if self._best_step is not None:
            self._checkpoints.link("best", self._best_step)
        if state.step == self._config.num_steps:
            self._checkpoints.link("final", state.step)

    @property
    def _best_step(self) -> int | None:
        """The newest checkpoint counts as the best where nothing is validated."""
        return self.state.best_step if self._validation is not None else self.state.step

    def _save_trees(self, trees: Sequence[RolloutTree]) -> None:
        every = self._config.rollouts_every
        if self._world.is_main and every and (self.state.step % every == 0 or self.state.step == 1):
            write_trees(self._run.rollouts_path(self.state.step), trees)


def _open_tasks(path: Path, protocol: ProtocolConfig, progress: Progress) -> StoredTasks:
    prompts = PromptCheck(protocol)
    tasks = open_tasks(path, prompts.add)
    report_bad_rows(tasks.bad_rows, progress)
    prompts.report(progress)
    return tasks
