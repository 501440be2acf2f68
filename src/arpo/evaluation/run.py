"""Evaluates a policy on tasks: the agent loop of training, a record per answer, metrics and reports."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch

from arpo.data.benchmarks import read_benchmark
from arpo.data.prompts import check_prompts
from arpo.data.tasks import read_tasks, report_bad_rows
from arpo.distributed.world import World, open_world, rank_device
from arpo.evaluation.config import EvalRun
from arpo.evaluation.journal import Journal
from arpo.evaluation.metrics import mean_score, questions_of
from arpo.evaluation.policy import find_policy, open_agent
from arpo.evaluation.records import FAILURES_FILE, RECORDS_FILE, TIMES_FILE, Mode, write_lines
from arpo.evaluation.report import write_reports
from arpo.evaluation.results import RESULTS_FILE, make_results, make_summary
from arpo.functions.run_functions import FunctionFiles, RunFunctions
from arpo.inference.config import require_engine_of_rank
from arpo.models.device import settle_device
from arpo.rewards.base import RewardFn
from arpo.rewards.build import build_scorer, choose_reward
from arpo.rewards.graders import find_grader
from arpo.rewards.scoring import Scorer
from arpo.rollout.agent import Agent
from arpo.rollout.config import NoBranchingConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.tools.base import Tool
from arpo.tools.function import OwnTools, as_tools
from arpo.tracking.console import shown_progress
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import RunDirectory, how_to_go_on
from arpo.tree import RolloutTree

BLOCK_TURNS = 4
"""A deterministic evaluation samples blocks of this many times `max_live_trajectories`."""


def evaluate(
    config: EvalRun,
    progress: Progress | None = None,
    resume: bool = False,
    *,
    reward_fn: RewardFn | None = None,
    tools: OwnTools | None = None,
    functions: FunctionFiles = "same",
) -> dict[str, Any]:
    """Answer the tasks greedily, and `num_samples` times by sampling; return the summary, as in `<out>/summary.json`.

    Under torchrun every process calls it and answers its share; rank 0 writes and returns the summary, the others an empty one.

    Each finished question goes to `<out>/rollouts/<mode>.jsonl.zst` at once: its tree with every token, call, result, grade and
    time. At the end come `records.jsonl`, a line per answer in the order of the tasks, without times and so the same for the
    same answers; `times.jsonl`; `failures.jsonl`, the questions without an answer; `results.json`; `summary.json`; `report.md`
    and `report.html`.

    Args:
        config: The run; with `resume`, that of the run directory.
        progress: Where phases are reported; None shows them on standard error, `arpo.SilentProgress()` nowhere.
        resume: Skip the questions whose answers are in `config.out`.
        reward_fn: Your own reward, a function of a Trajectory; None builds the configured one.
        tools: Tools of your own by name, or functions to make them of, besides the configured ones; `agent.protocol.tools`
            must name them.
        functions: Where the functions come from that the configuration of a resumed evaluation names, and those of a policy
            that was trained with the same files.

    Raises:
        ConfigError, DataError, ModelError, ToolError, EngineError: as their messages say.
        RunError: the run directory is in use, holds a run and `resume` is False, or its tasks or functions have changed since;
            or another rank was lost.
    """
    progress = progress or shown_progress()
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    if config.model is not None and config.engine.loads_model and config.engine.takes_device:
        config = config.model_copy(update={"model": settle_device(config.model, progress.line)})
    config = _with_fixed_policy(config)
    own_tools = as_tools(tools)
    own = RunFunctions(
        config, resume=resume, files=functions, reward_fn=reward_fn, tools=own_tools,
        policy=config.model.path if config.model is not None else None,
    )  # fmt: skip
    config = own.in_force(config)
    choose_reward(config.reward, reward_fn)  # its faults are found before anything is written
    file = read_tasks(config.tasks) if config.benchmark is None else read_benchmark(config.benchmark, config.tasks)
    report_bad_rows(file.bad_rows, progress)
    tasks = list(file.tasks)[: config.num_tasks]
    check_prompts(tasks, config.agent.protocol, progress)
    require_engine_of_rank(config.engine)
    device = config.model.device if config.model is not None else "cpu"
    with (
        open_world(config.distributed, device, lambda: how_to_go_on(config.out)) as world,
        world.main_first(lambda: RunDirectory.open(config.out, "eval") if resume else RunDirectory.create(config.out)) as run,
    ):
        journal = world.main_first(lambda: Journal(config, run, tasks))
        started = time.perf_counter()
        costs: dict[str, Any] = {}
        if any(journal.missing(mode) for mode in journal.modes):
            costs = asyncio.run(_answer_all(config, journal, progress, world, own, reward_fn, own_tools))
        if not world.is_main:
            return {}
        seconds = {"seconds": time.perf_counter() - started}
        summary = _write(config, run, journal, seconds | {"num_bad_rows": len(file.bad_rows)} | costs)
        for line in _gaps(journal):
            progress.line(line)
        return summary


def _with_fixed_policy(config: EvalRun) -> EvalRun:
    """The run with the links in `model.path` resolved: `best` may be another checkpoint by the time the run is resumed."""
    if config.model is None or not config.model.path.exists():
        return config
    path = config.model.path
    return config.model_copy(update={"model": config.model.model_copy(update={"path": path.resolve()})})


async def _answer_all(
    config: EvalRun,
    journal: Journal,
    progress: Progress,
    world: World,
    own: RunFunctions[EvalRun],
    reward_fn: RewardFn | None,
    tools: dict[str, Tool],
) -> dict[str, Any]:
    """Answer the missing questions; return the counts of a served model, as `server`, and of a judge, as `judge`."""
    recorded, local = world.main_first(lambda: find_policy(config.model, config.engine, progress))
    if local is not None:
        local = local.model_copy(update={"device": rank_device(local.device)})
    async with open_agent(local, config.engine, config.agent, tools) as agent:
        if agent.engine.notice:
            progress.line(agent.engine.notice)
        if world.is_main:
            own.keep()
        journal.start(recorded)
        grader = config.headline_grader
        measures = {grader: find_grader(grader, config.headline_grading)} if grader is not None else None
        scorer = build_scorer(config.reward, reward_fn, measures=measures)
        try:
            for mode in journal.modes:
                await _answer(config, agent, scorer, mode, journal, progress, world)
            return _report_costs(agent, scorer, progress, world)
        finally:
            await scorer.aclose()


async def _answer(
    config: EvalRun, agent: Agent, scorer: Scorer, mode: Mode, journal: Journal, progress: Progress, world: World
) -> None:
    """Answer the missing questions of one mode.

    One process records each answer once it is there. Ranks answer their shares of a block, and record it when all have done so.
    """
    num_answers = 1 if mode == "greedy" else config.num_samples
    rollout = RolloutConfig(
        group_size=num_answers,
        rule=NoBranchingConfig(),
        temperature=0.0 if mode == "greedy" else config.temperature,
        deterministic=config.deterministic,
    )
    live = max(1, config.max_live_trajectories // num_answers)
    runner = RolloutRunner(agent, rollout, max_live_groups=live)
    size = live * BLOCK_TURNS * world.size
    if config.deterministic:
        blocks = journal.blocks(mode, size)
    else:
        missing = journal.missing(mode)
        blocks = [missing] if world.size == 1 else [missing[i : i + size] for i in range(0, len(missing), size)]
    means = [mean for q in questions_of(journal.records(mode), mode) if (mean := mean_score(q.answers)) is not None]
    num_done = len(journal.records(mode)) // num_answers

    def fail(failure: TreeFailure) -> None:
        if failure.is_dropped and journal.is_missing(failure.task, mode):
            progress.line(f"task {failure.task.id!r} failed: {failure.error}")
            journal.fail(failure.task, mode, failure.error)

    with progress.phase(f"eval, {mode}", num_done + len(journal.missing(mode)), "task", num_done) as phase:

        def record(tree: RolloutTree) -> None:
            mean = mean_score(journal.add(tree, mode))
            means.extend([] if mean is None else [mean])
            phase.advance(1, **({config.metric: round(fmean(means), 3)} if means else {}))

        for block in blocks:
            answers: list[RolloutTree] = []
            failures: list[TreeFailure] = []
            is_alone = world.size == 1
            on_failure = fail if is_alone else failures.append
            sampled = _unanswered(runner.sample(world.share(block), seed=config.seed, on_failure=on_failure), mode, journal)
            async with aclosing(scorer.scored(sampled)) as scored:
                async for tree in scored:
                    (record if is_alone else answers.append)(tree)
            for of_rank, failed in () if is_alone else world.gather((answers, failures)):
                for failure in failed:
                    fail(failure)
                for tree in of_rank:
                    record(tree)
    num_changed = int(world.sums([journal.num_changed])[0])
    if num_changed:
        progress.line(
            f"{num_changed} answers differ when sampled again beside missing ones "
            "(has a tool, the index or the policy changed?); the first ones stand"
        )


async def _unanswered(
    trees: AsyncGenerator[RolloutTree, None], mode: Mode, journal: Journal
) -> AsyncGenerator[RolloutTree, None]:
    """The trees of tasks without an answer."""
    async with aclosing(trees):
        async for tree in trees:
            if not journal.has(tree, mode):
                yield tree


def _report_costs(agent: Agent, scorer: Scorer, progress: Progress, world: World) -> dict[str, Any]:
    """Report the requests to servers since the start or resumption of the run."""
    counts = {"server": agent.engine.usage, "judge": scorer.drain_judge_counts(world.gather)}
    for count in counts.values():
        if count is not None:
            progress.line(str(count))
    return {name: asdict(count) for name, count in counts.items() if count is not None}


def _gaps(journal: Journal) -> Iterator[str]:
    """What the figures leave out, and tools that never worked."""
    records = journal.records()
    if ungraded := [r for r in records if r.score is None]:
        yield f"{len(ungraded)} answers could not be graded and count nowhere; the last one: {ungraded[-1].reason}"
    if failed := {failure.task_id for failure in journal.failures}:
        yield f"{len(failed)} of the questions failed and count nowhere; `arpo eval --resume` asks them again"
    for tool in sorted({name for record in records for name in record.tool_calls}):
        num_calls = sum(r.tool_calls.get(tool, 0) for r in records)
        if num_calls == sum(r.failed_tool_calls.get(tool, 0) for r in records):
            yield f"every call of {tool!r} failed ({num_calls}); the scores are those of a policy without it"


def _write(config: EvalRun, run: RunDirectory, journal: Journal, costs: dict[str, Any]) -> dict[str, Any]:
    """Write records, results, summary and reports; return the summary."""
    records, times = journal.records(), journal.times()
    write_lines(run.path / RECORDS_FILE, records)
    write_lines(run.path / TIMES_FILE, times)
    write_lines(run.path / FAILURES_FILE, journal.failures)
    results = make_results(records, times, metric=config.metric, seed=config.seed, failures=journal.failures)
    run.write_json(RESULTS_FILE, results)
    summary = make_summary(results) | costs
    run.write_json("summary.json", summary)
    write_reports(run.path)
    return summary
