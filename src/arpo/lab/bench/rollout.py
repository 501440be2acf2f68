"""`arpo bench rollout`: our rollout beside the bare model's limit, the naive loop and TRL, all in one run."""

import resource
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from arpo.errors import ConfigError
from arpo.lab.bench.latency import LATENCIES, NO_LATENCY
from arpo.lab.bench.limit import BareModel, candidate_widths, limit_seconds, timed
from arpo.lab.bench.machine import machine
from arpo.lab.bench.naive import naive_seconds
from arpo.lab.bench.ours import Ours
from arpo.lab.bench.peers import run_trl
from arpo.lab.bench.policies import write_policy
from arpo.lab.bench.workload import Workload
from arpo.models.attention import use_layout_attention
from arpo.models.loading import load_policy
from arpo.protocols.encoding import PolicyTokenizer
from arpo.tracking.progress import Progress

GROUP_SIZE = 16
"""Trajectories per task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The case of one row of the results."""

    model: str
    trajectories: int
    width: int
    tool_latency: str

    def workload(self) -> Workload:
        """The work of the case."""
        return Workload(
            num_tasks=self.trajectories // GROUP_SIZE, group_size=GROUP_SIZE, width=self.width,
            latency=LATENCIES[self.tool_latency],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure and how often."""

    cases: Sequence[Case]
    trl_python: Path | None = None
    """Interpreter of the environment TRL is installed in; None leaves TRL out."""
    curve: Sequence[Case] = ()
    """Cases measured for ours alone, which show how the cost grows."""
    repeats: int = 3
    """Runs of ours and of the limit, in turn; the fastest counts. The other contenders run once."""


def make_cases(models: Sequence[str], sizes: Sequence[tuple[int, int]], latencies: Sequence[str]) -> list[Case]:
    """Every combination of models, (trajectories, width) and latencies.

    Raises:
        ConfigError: trajectories or width is no multiple of the group size.
    """
    for size in sizes:
        for name, value in zip(("trajectories", "width"), size, strict=True):
            if value < GROUP_SIZE or value % GROUP_SIZE:
                raise ConfigError(f"--{name} {value}: must be a multiple of {GROUP_SIZE}, the trajectories per task")
    return [
        Case(model=model, trajectories=trajectories, width=width, tool_latency=latency)
        for model in models
        for trajectories, width in sizes
        for latency in latencies
    ]


def run(options: BenchOptions, progress: Progress) -> Iterator[dict[str, Any]]:
    """Measure case by case; after each yield the content of the JSON file so far."""
    where = machine()
    rows: dict[str, list[dict[str, Any]]] = {"cases": [], "curve": []}
    work = [("cases", case, compare, "ratio_to_bound") for case in options.cases]
    work += [("curve", case, measure_ours, "ours_tokens_per_s") for case in options.curve]
    with tempfile.TemporaryDirectory() as folder, progress.phase("bench", total=len(work), unit="case") as phase:
        for table, case, measure, shown in work:
            row = {**asdict(case), **measure(case.workload(), _policy(case.model, Path(folder)), options)}
            rows[table].append(row)
            phase.advance(**{shown: row[shown]})
            yield {"machine": where, **rows}


def measure_ours(workload: Workload, policy: Path, options: BenchOptions) -> dict[str, Any]:
    """Seconds of ours alone."""
    model, tokenizer = use_layout_attention(load_policy(policy)), PolicyTokenizer.load(policy)
    engine = _warm_engine(model, tokenizer, workload)
    seconds = min(engine.run(workload).seconds for _ in range(options.repeats))
    return {"ours_seconds": seconds, "ours_tokens_per_s": workload.sampled_tokens / seconds}


def compare(workload: Workload, policy: Path, options: BenchOptions) -> dict[str, Any]:
    """Seconds of every contender on a workload, and ratios."""
    model, tokenizer = use_layout_attention(load_policy(policy)), PolicyTokenizer.load(policy)
    engine, ours, limits = _warm_engine(model, tokenizer, workload), [], []
    for _ in range(options.repeats):
        ours.append(engine.run(workload))
        limits.append(limit_seconds(model, workload, [min(limits)[1]] if limits else candidate_widths(workload)))
    best = min(ours, key=lambda run: run.seconds)
    limit, limit_width = min(limits)
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bound = max(limit, longest_trajectory_seconds(model, workload))
    stock = load_policy(policy)
    naive = naive_seconds(stock, workload)
    trl = run_trl(options.trl_python, policy, workload) if options.trl_python else None
    return {
        "ours_seconds": best.seconds,
        "limit_seconds": limit,
        "bound_seconds": bound,
        "naive_seconds": naive,
        "trl_seconds": trl and trl.serial_seconds,
        "trl_concurrent_seconds": trl and trl.concurrent_seconds,
        "ours_tokens_per_s": workload.sampled_tokens / best.seconds,
        "ratio_to_limit": limit / best.seconds,
        "ratio_to_bound": bound / best.seconds,
        "speedup_vs_naive": naive / best.seconds,
        "speedup_vs_trl": trl and trl.serial_seconds / best.seconds,
        "speedup_vs_trl_concurrent": trl and trl.concurrent_seconds / best.seconds,
        "prefill_tokens": best.prefill_tokens,
        "prefill_tokens_minimum": workload.prefill_minimum,
        "peak_memory_mb": peak_memory,
        "limit_width": limit_width,
        **_one_turn(model, stock, workload),
        "trl_batch_size": trl and trl.batch_size,
        "trl_version": trl and trl.version,
    }


def longest_trajectory_seconds(model: PreTrainedModel, workload: Workload) -> float:
    """Seconds of the trajectory whose tools take longest, alone on the machine."""
    alone = replace(workload, num_tasks=1, group_size=1, width=1, latency=NO_LATENCY)
    return timed(BareModel(model, alone, 1)) + float(workload.delays.sum(axis=1).max())


def _one_turn(model: PreTrainedModel, stock: PreTrainedModel, workload: Workload) -> dict[str, float]:
    """The limit's decoding beside `generate`, which it must beat: one turn of as many tokens on `width` prompts."""
    turn_tokens = workload.num_turns * workload.turn_tokens
    one = replace(workload, num_tasks=workload.width, group_size=1, num_turns=1, turn_tokens=turn_tokens, latency=NO_LATENCY)
    limit = min(timed(BareModel(model, one, one.width)) for _ in range(2))
    generate = min(naive_seconds(stock, one) for _ in range(2))
    return {"one_turn_limit_seconds": limit, "one_turn_generate_seconds": generate}


def _warm_engine(model: PreTrainedModel, tokenizer: PolicyTokenizer, workload: Workload) -> Ours:
    """Our engine after an untimed run, so that its cache is allocated, as the limit's is and as in training."""
    engine = Ours(model, tokenizer, workload.width)
    engine.run(replace(workload, latency=NO_LATENCY))
    return engine


def _policy(name: str, folder: Path) -> Path:
    return folder / name if (folder / name).is_dir() else write_policy(name, folder / name)
