"""`arpo bench step`: a whole step of RL, rollout and training, beside the bare model's limits of both."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo.lab.bench.limit import limit_seconds
from arpo.lab.bench.machine import machine
from arpo.lab.bench.rollout import Case, find_policy, warm_engine
from arpo.lab.bench.training_data import count_trees, draw_rewards
from arpo.lab.bench.training_steps import limit
from arpo.lab.bench.workload import Workload
from arpo.models.attention import use_layout_attention
from arpo.models.loading import load_policy
from arpo.tracking.progress import Progress
from arpo.training.config import RlRun
from arpo.training.learner import Learner
from arpo.tree import RolloutTree


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBenchOptions:
    """What to measure."""

    case: Case
    dtypes: Sequence[str]
    """Number formats of the weights, as torch names them; full training in 16 bits keeps float32 masters."""
    max_tokens: int
    """Tokens of one forward pass of training, as `batching.max_tokens`."""


def run(options: StepBenchOptions, progress: Progress) -> Iterator[dict[str, Any]]:
    """Measure format by format; after each yield the content of the JSON file so far."""
    where, rows = machine(), []
    with tempfile.TemporaryDirectory() as folder, progress.phase("bench", total=len(options.dtypes), unit="format") as phase:
        policy = find_policy(options.case.model, Path(folder))
        for dtype in options.dtypes:
            row = measure_step(options.case.workload(), policy, dtype, options.max_tokens)
            rows.append({**options.case.columns(), "dtype": dtype, **row})
            phase.advance(ratio_to_limits=row["ratio_to_limits"])
            slowest = next((r["step_seconds"] for r in rows if r["dtype"] == "float32"), None)
            speedups = [{"speedup_vs_float32": slowest and slowest / r["step_seconds"]} for r in rows]
            yield {"machine": where, "steps": [r | s for r, s in zip(rows, speedups, strict=True)]}


def measure_step(workload: Workload, policy: Path, dtype: str, max_tokens: int) -> dict[str, Any]:
    """Seconds of a step's two parts and of their limits, each once, and ratios; the rollout's cache is allocated before."""
    learner = Learner(_configuration(workload, policy, dtype, max_tokens))
    engine = warm_engine(learner.policy.network, policy, workload)
    rolled_out = engine.run(workload)
    draw_rewards(rolled_out.trees)
    training = _learning_seconds(learner, rolled_out.trees)
    del learner, engine
    decoding_limit, _ = limit_seconds(use_layout_attention(load_policy(policy, dtype)), workload, [workload.width])
    training_limit = _training_limit_seconds(policy, dtype, rolled_out.trees, max_tokens)
    step, limits = rolled_out.seconds + training, decoding_limit + training_limit
    return {
        "rollout_seconds": rolled_out.seconds,
        "training_seconds": training,
        "step_seconds": step,
        "rollout_limit_seconds": decoding_limit,
        "training_limit_seconds": training_limit,
        "ratio_to_limits": step / limits,
        "sampled_tokens": workload.sampled_tokens,
        "unique_tokens": count_trees(rolled_out.trees).unique_tokens,
    }


def _configuration(workload: Workload, policy: Path, dtype: str, max_tokens: int) -> RlRun:
    """A run without KL, whose old log-probs are the rollout's."""
    limits = {"max_turn_tokens": workload.turn_tokens, "max_trajectory_tokens": workload.trajectory_tokens}
    return RlRun.model_validate(
        {
            "algorithm": "grpo", "out": "unused", "tasks": "unused", "model": {"path": str(policy), "dtype": dtype},
            "agent": {"limits": limits}, "batching": {"max_tokens": max_tokens},
        }
    )  # fmt: skip


def _learning_seconds(learner: Learner, trees: Sequence[RolloutTree]) -> float:
    start = time.perf_counter()
    learner.learn(trees)
    return time.perf_counter() - start


def _training_limit_seconds(policy: Path, dtype: str, trees: Sequence[RolloutTree], max_tokens: int) -> float:
    return limit(load_policy(policy, dtype), count_trees(trees)).measure(max_tokens)
