"""Runs the scripted demonstrator through the real agent loop and writes its conversations."""

import asyncio
import time
from contextlib import aclosing
from statistics import fmean
from typing import Any

from arpo.data.conversations import trajectory_to_conversation, write_conversations
from arpo.data.tasks import read_tasks, report_bad_rows
from arpo.errors import ConfigError
from arpo.inference.scripted import ScriptedEngine
from arpo.models.source import find_model
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.composite import CompositeReward
from arpo.rewards.config import RewardConfig
from arpo.rewards.scoring import mean_scores, rewards_of, score_tree
from arpo.rollout.build import build_agent
from arpo.rollout.config import NoBranchingConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner
from arpo.tracking.console import shown_progress
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import RunDirectory
from arpo.tree import RolloutTree
from arpo.types import Task
from arpo.world.config import DemosRun
from arpo.world.demonstrator import Demonstrator


def write_demos(config: DemosRun, progress: Progress | None = None) -> dict[str, Any]:
    """Demonstrate the tasks; write `<out>/conversations.jsonl` and `<out>/summary.json` and return the summary.

    `accuracy` is the demonstrator's share of right answers to these tasks: the ceiling of imitation.

    Raises:
        ConfigError, DataError, ModelError, ToolError, RunError: as their messages say.
    """
    progress = progress or shown_progress()
    file = read_tasks(config.tasks)
    report_bad_rows(file.bad_rows, progress)
    tasks = list(file.tasks)[: config.num_tasks]
    with RunDirectory.create(config.out) as run:
        started = time.perf_counter()
        trees = asyncio.run(_demonstrate(config, tasks, progress))
        write_conversations(run.path / "conversations.jsonl", (trajectory_to_conversation(t.trajectories()[0]) for t in trees))
        scores = mean_scores(rewards_of(trees))
        summary = {
            "num_conversations": len(trees),
            **scores,
            "tool_calls_per_task": fmean(len(t.trajectories()[0].tool_results) for t in trees),
            "tokens_per_conversation": fmean(t.num_unique_tokens for t in trees),
            "seconds": time.perf_counter() - started,
        }
        run.write_json("summary.json", summary)
    return summary


async def _demonstrate(config: DemosRun, tasks: list[Task], progress: Progress) -> list[RolloutTree]:
    directory = find_model(config.model, label=f"model = {str(config.model)!r}", progress=progress, needs_weights=False)
    tokenizer = PolicyTokenizer.load(directory)
    if config.agent.protocol.type != "tags":
        raise ConfigError(
            f"agent.protocol.type = {config.agent.protocol.type!r}: the demonstrator writes tags; set it to 'tags'"
        )
    engine = ScriptedEngine(Demonstrator(config.seed, config.demonstrator).next_turn, tokenizer)
    agent = build_agent(config.agent, engine, tokenizer)
    runner = RolloutRunner(agent, RolloutConfig(group_size=1, rule=NoBranchingConfig()), max_live_groups=32)
    reward_fn = CompositeReward(RewardConfig())
    trees: dict[str, RolloutTree] = {}
    try:
        with progress.phase("demos", len(tasks), "task") as phase:
            async with aclosing(runner.sample(tasks, seed=config.seed)) as grown:
                async for tree in grown:
                    score_tree(tree, reward_fn)
                    trees[tree.task.id] = tree
                    phase.advance(1)
    finally:
        await engine.aclose()
        await agent.environment.aclose()
    return [trees[task.id] for task in tasks]
