"""Our rollout: runner, agent loop and engine exactly as in training."""

import asyncio
import time
from dataclasses import dataclass

from transformers import PreTrainedModel

from arpo.inference.transformers_engine import TransformersEngine
from arpo.lab.bench.scripted import TOOL_NAME, FixedTurns, tasks, waiting_tool
from arpo.lab.bench.workload import Workload
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.config import LimitsConfig, NoBranchingConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.tree import NodeKind, RolloutTree


@dataclass(frozen=True, slots=True, kw_only=True)
class OursMeasured:
    """One run of the workload."""

    seconds: float
    trees: list[RolloutTree]
    prefill_tokens: int
    """Given tokens that the model computed; recomputed sampled tokens would count too."""


class Ours:
    """Our engine on a model; it serves all runs, as in training, so that its cache is allocated from the second run on."""

    def __init__(self, model: PreTrainedModel, tokenizer: PolicyTokenizer, width: int):
        self._tokenizer = tokenizer
        self._engine = TransformersEngine(model, decode=tokenizer.decode, eos_ids=frozenset(), max_width=width)

    def run(self, workload: Workload) -> OursMeasured:
        """Sample every trajectory of the workload, without branching."""
        runner = RolloutRunner(
            self._agent(workload),
            RolloutConfig(group_size=workload.group_size, rule=NoBranchingConfig(), deterministic=False),
        )
        computed_before = self._engine.num_computed_tokens
        start = time.perf_counter()
        trees = asyncio.run(_sample(runner, workload))
        seconds = time.perf_counter() - start
        sampled = sum(len(node.token_ids) for tree in trees for node in tree.nodes if node.kind is NodeKind.COMPLETION)
        if sampled != workload.sampled_tokens:
            raise AssertionError(f"{sampled} tokens were sampled, the workload has {workload.sampled_tokens}")
        # the last token of a trajectory is never computed: nothing follows it
        computed_draws = workload.sampled_tokens - workload.num_trajectories
        computed = self._engine.num_computed_tokens - computed_before
        return OursMeasured(seconds=seconds, trees=trees, prefill_tokens=computed - computed_draws)

    def _agent(self, workload: Workload) -> Agent:
        executor = ToolExecutor(
            {TOOL_NAME: waiting_tool(workload)},
            ExecutorConfig(max_calls=max(1, workload.num_calls), max_concurrency=workload.num_trajectories, timeout_s=3600),
            self._tokenizer.cut,
        )
        return Agent(
            engine=self._engine, tokenizer=self._tokenizer, protocol=FixedTurns(workload), environment=executor,
            limits=LimitsConfig(max_turn_tokens=workload.turn_tokens, max_trajectory_tokens=workload.trajectory_tokens),
        )  # fmt: skip


async def _sample(runner: RolloutRunner, workload: Workload) -> list[RolloutTree]:
    return [tree async for tree in runner.sample(tasks(workload), seed=workload.seed)]
