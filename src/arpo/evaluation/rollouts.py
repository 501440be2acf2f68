"""Samples the trees of a file of tasks without training, and writes them with their statistics."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import torch

from arpo.config import dump_config
from arpo.data.prompts import check_prompts
from arpo.data.tasks import read_tasks, report_bad_rows
from arpo.errors import EngineError
from arpo.evaluation.config import RolloutRun
from arpo.evaluation.policy import find_policy, open_agent
from arpo.functions.run_functions import FunctionFiles, RunFunctions
from arpo.models.config import ModelConfig
from arpo.models.device import settle_device
from arpo.rewards.answer_text import extract_boxed, normalize
from arpo.rewards.base import RewardFn
from arpo.rewards.build import build_scorer, choose_reward
from arpo.rewards.config import RewardConfig
from arpo.rewards.scoring import mean_scores, rewards_of
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.tools.base import Tool
from arpo.tools.function import OwnTools, as_tools
from arpo.tracking.console import shown_progress
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import RunDirectory
from arpo.tree import RolloutTree, read_trees, write_trees
from arpo.tree.branching_statistics import BranchingStatistics
from arpo.tree.entropy import EntropyByDistance
from arpo.tree.statistics import TreeStatistics
from arpo.types import Reward, Task

MAX_DISTANCE = 40


def sample_rollouts(
    config: RolloutRun,
    progress: Progress | None = None,
    resume: bool = False,
    *,
    reward_fn: RewardFn | None = None,
    tools: OwnTools | None = None,
    on_tree: Callable[[RolloutTree], None] | None = None,
    functions: FunctionFiles = "same",
) -> dict[str, Any]:
    """Sample one tree per task and return the summary, as in `<out>/summary.json`.

    Finished trees are written to `<out>/rollouts/part_NNNNNN.jsonl.zst`. The summary has the `TreeStatistics.summary` of all
    trees, the mean rewards where a reward is configured, `branching`: the `BranchingStatistics.summary`, and
    `entropy_by_distance`: the curves of `EntropyByDistance`.

    Args:
        config: The run; with `resume`, that of the run directory.
        progress: Where phases are reported; None shows them on standard error, `arpo.SilentProgress()` nowhere.
        resume: Skip the tasks whose trees are in `config.out`.
        reward_fn: Your own reward, a function of a Trajectory; None builds the configured one, if there is one.
        tools: Tools of your own by name, or functions to make them of, besides the configured ones; `agent.protocol.tools`
            must name them.
        on_tree: Gets each tree once it is finished, none of earlier runs.
        functions: Where a resumed run takes the functions from that its configuration names.

    Raises:
        ConfigError, DataError, ModelError, ToolError: what is configured cannot be used; see each message.
        RunError: the run directory is in use, or holds a run and `resume` is False; or a resumed run's functions have changed.
        EngineError: every tree was dropped; single ones are reported, counted as `dropped_trees`, and sampled by `resume`.
    """
    progress = progress or shown_progress()
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    if config.engine.takes_device:
        config = config.model_copy(update={"model": settle_device(config.model, progress.line)})
    own_tools = as_tools(tools)
    own = RunFunctions(config, resume=resume, files=functions, reward_fn=reward_fn, tools=own_tools)
    config = own.in_force(config)
    if reward_fn is not None and config.reward is None:
        config = config.model_copy(update={"reward": RewardConfig()})
    if config.reward is not None:
        choose_reward(config.reward, reward_fn)  # its faults are found before anything is written
    file = read_tasks(config.tasks)
    report_bad_rows(file.bad_rows, progress)
    tasks = list(file.tasks)[: config.num_tasks]
    check_prompts(tasks, config.agent.protocol, progress)
    with RunDirectory.open(config.out, "rollout") if resume else RunDirectory.create(config.out) as run:
        record = _Record(config, run)
        missing = [task for task in tasks if task.id not in record.task_ids]
        if missing:
            num_done = len(tasks) - len(missing)
            asyncio.run(_sample(config, missing, num_done, record, progress, on_tree, own, reward_fn, own_tools))
        summary = record.summary() | {"dropped_trees": len(tasks) - len(record.task_ids), "num_bad_rows": len(file.bad_rows)}
        run.write_json("summary.json", summary)
    return summary


class _Record:
    """The finished trees of a run directory: trees on disk, statistics in memory."""

    def __init__(self, config: RolloutRun, run: RunDirectory) -> None:
        """Count the trees of earlier runs."""
        self.task_ids: set[str] = set()
        self._run = run
        self._config = config
        self._waiting: list[RolloutTree] = []
        self._statistics = TreeStatistics(window=config.rollout.entropy_window, read_answer=_read_answer)
        self._branching = BranchingStatistics()
        self._entropy = EntropyByDistance(MAX_DISTANCE)
        self._rewards: list[Reward] = []
        parts = sorted((run.path / "rollouts").glob("part_*.jsonl.zst"))
        self._num_parts = len(parts)
        for part in parts:
            for tree in read_trees(part):
                self._count(tree)

    def start(self, model: ModelConfig | None) -> None:
        """Write the configuration, once policy and tools work; with the same `model` the run is resumed."""
        if not self._run.config_path.is_file():
            self._run.write_text("config.toml", dump_config(self._config.model_copy(update={"model": model})))

    def add(self, tree: RolloutTree) -> None:
        """Add a finished tree."""
        self._count(tree)
        self._waiting.append(tree)
        if len(self._waiting) == self._config.trees_per_file:
            self.flush()

    def flush(self) -> None:
        """Write the trees that wait for their file to fill."""
        if self._waiting:
            self._num_parts += 1
            write_trees(self._run.path / "rollouts" / f"part_{self._num_parts:06d}.jsonl.zst", self._waiting)
            self._waiting = []

    def summary(self) -> dict[str, Any]:
        """The statistics of all trees."""
        statistics = self._statistics.summary()
        scores = mean_scores(self._rewards) if self._config.reward is not None else {}
        return {
            "seed": self._config.seed,
            **statistics,
            **scores,
            "branching": self._branching.summary(),
            "entropy_by_distance": asdict(self._entropy.profile()),
        }

    def _count(self, tree: RolloutTree) -> None:
        self.task_ids.add(tree.task.id)
        self._statistics.add(tree)
        self._branching.add(tree)
        self._entropy.add(tree)
        self._rewards += rewards_of([tree])


async def _sample(
    config: RolloutRun,
    tasks: list[Task],
    num_done: int,
    record: _Record,
    progress: Progress,
    on_tree: Callable[[RolloutTree], None] | None,
    own: RunFunctions[RolloutRun],
    reward_fn: RewardFn | None,
    tools: dict[str, Tool],
) -> None:
    scorer = build_scorer(config.reward, reward_fn) if config.reward is not None else None
    dropped: list[TreeFailure] = []
    num_branches = 0

    def report(failure: TreeFailure) -> None:
        progress.line(str(failure))
        if failure.is_dropped:
            dropped.append(failure)

    recorded, local = find_policy(config.model, config.engine, progress)
    async with open_agent(local, config.engine, config.agent, tools) as agent:
        if agent.engine.notice:
            progress.line(agent.engine.notice)
        own.keep()
        record.start(recorded)
        live = max(1, config.max_live_trajectories // config.rollout.group_size)
        runner = RolloutRunner(agent, config.rollout, max_live_groups=live)
        try:
            with progress.phase("rollout", num_done + len(tasks), "task", num_done) as phase:
                sampling = runner.sample(tasks, seed=config.seed, on_failure=report)
                async with aclosing(scorer.scored(sampling) if scorer is not None else sampling) as trees:
                    async for tree in trees:
                        record.add(tree)
                        if on_tree is not None:
                            on_tree(tree)
                        num_branches += sum(n.is_branch for n in tree.nodes)
                        phase.advance(1, branches=num_branches)
        finally:
            record.flush()
            if scorer is not None:
                await scorer.aclose()
    if len(dropped) == len(tasks):
        raise EngineError(f"every tree was dropped; the last error: {dropped[-1].error}") from dropped[-1].error


def _read_answer(answer: str) -> str:
    boxed = extract_boxed(answer)
    return normalize(answer if boxed is None else boxed)
