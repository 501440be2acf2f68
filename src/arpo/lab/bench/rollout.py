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
from arpo.lab.bench.ours import Ours, OursMeasured
from arpo.lab.bench.peers import run_trl
from arpo.lab.bench.policies import POLICIES, write_policy
from arpo.lab.bench.workload import Workload
from arpo.models.attention import use_layout_attention
from arpo.models.loading import load_policy
from arpo.protocols.encoding import PolicyTokenizer
from arpo.tracking.progress import Progress

GROUP_SIZE = 16
"""Trajectories per task."""
CONTENDERS = ("ours", "limit", "naive", "one_turn")
"""What `--only` names; `one_turn` compares the limit's decoding with `generate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Token counts of a trajectory."""

    num_turns: int = 3
    prompt_tokens: int = 32
    turn_tokens: int = 32
    observation_tokens: int = 96

    def __str__(self) -> str:
        """Example: a prompt of 32 and three turns of 32 with two results of 96 are `32 + 3 x 32 + 2 x 96`."""
        return (
            f"{self.prompt_tokens} + {self.num_turns} x {self.turn_tokens} + {self.num_turns - 1} x {self.observation_tokens}"
        )


_SHAPE = Shape()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The case of one row of the results."""

    model: str
    """Name of a made-up policy, or a model directory."""
    trajectories: int
    width: int
    tool_latency: str = NO_LATENCY.name
    shape: Shape = _SHAPE

    def workload(self) -> Workload:
        """The work of the case."""
        return Workload(
            num_tasks=self.trajectories // GROUP_SIZE, group_size=GROUP_SIZE, width=self.width,
            latency=LATENCIES[self.tool_latency], **asdict(self.shape),
        )  # fmt: skip

    def decoding(self) -> Workload:
        """One turn of all trajectories at once, from as many tokens on as a trajectory has on average."""
        group_size = min(GROUP_SIZE, self.trajectories)
        context = Workload(num_tasks=1, group_size=1, width=1, latency=NO_LATENCY, **asdict(self.shape)).trajectory_tokens // 2
        one_turn = {**asdict(self.shape), "num_turns": 1, "prompt_tokens": context}
        return Workload(
            num_tasks=self.trajectories // group_size,
            group_size=group_size,
            width=self.trajectories,
            latency=NO_LATENCY,
            **one_turn,
        )

    def columns(self) -> dict[str, Any]:
        """The case in the results."""
        return {**asdict(self), "model": Path(self.model).name, "shape": str(self.shape)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure and how often."""

    cases: Sequence[Case]
    trl_python: Path | None = None
    """Interpreter of the environment TRL is installed in; None leaves TRL out."""
    curve: Sequence[Case] = ()
    """Cases measured for ours alone, which show how the cost grows."""
    decoding: Sequence[Case] = ()
    """Cases whose `trajectories` are the batch sizes at which ours and the limit decode one turn."""
    repeats: int = 3
    """Runs of ours and of the limit, in turn; the fastest counts. The other contenders run once."""
    dtype: str = "float32"
    """Number format of the weights, as torch names it."""
    only: Sequence[str] = CONTENDERS
    """Contenders to measure."""
    limit_width: int | None = None
    """Width of the limit's batches; None: the fastest of the slots and halves of them."""


def make_cases(
    models: Sequence[str], sizes: Sequence[tuple[int, int]], latencies: Sequence[str], shape: Shape = _SHAPE
) -> list[Case]:
    """Every combination of models, (trajectories, width) and latencies.

    Raises:
        ConfigError: trajectories or width is no multiple of the group size.
    """
    for size in sizes:
        for name, value in zip(("trajectories", "width"), size, strict=True):
            if value < GROUP_SIZE or value % GROUP_SIZE:
                raise ConfigError(f"--{name} {value}: must be a multiple of {GROUP_SIZE}, the trajectories per task")
    return [
        Case(model=model, trajectories=trajectories, width=width, tool_latency=latency, shape=shape)
        for model in models
        for trajectories, width in sizes
        for latency in latencies
    ]


def make_decoding_cases(models: Sequence[str], batches: Sequence[int], shape: Shape = _SHAPE) -> list[Case]:
    """Every combination of models and batch sizes.

    Raises:
        ConfigError: a batch size is neither below the group size nor a multiple of it.
    """
    for batch in batches:
        if batch < 1 or (batch > GROUP_SIZE and batch % GROUP_SIZE):
            raise ConfigError(f"--decoding {batch}: must be 1 to {GROUP_SIZE}, or a multiple of {GROUP_SIZE}")
    return [Case(model=model, trajectories=batch, width=batch, shape=shape) for model in models for batch in batches]


def run(options: BenchOptions, progress: Progress) -> Iterator[dict[str, Any]]:
    """Measure case by case; after each yield the content of the JSON file so far."""
    where = {**machine(), "dtype": options.dtype}
    rows: dict[str, list[dict[str, Any]]] = {"cases": [], "curve": [], "decoding": []}
    work = [("cases", case, compare, "ratio_to_bound") for case in options.cases]
    work += [("curve", case, measure_ours, "ours_tokens_per_s") for case in options.curve]
    work += [("decoding", case, compare_decoding, "ratio_to_limit") for case in options.decoding]
    with tempfile.TemporaryDirectory() as folder, progress.phase("bench", total=len(work), unit="case") as phase:
        for table, case, measure, shown in work:
            workload = case.decoding() if table == "decoding" else case.workload()
            row = {**case.columns(), **measure(workload, find_policy(case.model, Path(folder)), options)}
            rows[table].append(row)
            phase.advance(**{shown: row[shown]} if row[shown] is not None else {})
            yield {"machine": where, **rows}


def measure_ours(workload: Workload, policy: Path, options: BenchOptions) -> dict[str, Any]:
    """Seconds of ours alone."""
    engine = warm_engine(use_layout_attention(load_policy(policy, options.dtype)), policy, workload)
    seconds = min(engine.run(workload).seconds for _ in range(options.repeats))
    return {"ours_seconds": seconds, "ours_tokens_per_s": workload.sampled_tokens / seconds}


def compare_decoding(workload: Workload, policy: Path, options: BenchOptions) -> dict[str, Any]:
    """Tokens per second of ours and of the limit at one batch size."""
    model = use_layout_attention(load_policy(policy, options.dtype))
    engine = warm_engine(model, policy, workload)
    bare = BareModel(model, workload, workload.width)
    ours, limits = zip(*((engine.run(workload).seconds, timed(bare)) for _ in range(options.repeats)), strict=True)
    return {
        "ours_tokens_per_s": workload.sampled_tokens / min(ours),
        "limit_tokens_per_s": workload.sampled_tokens / min(limits),
        "ratio_to_limit": min(limits) / min(ours),
    }


def compare(workload: Workload, policy: Path, options: BenchOptions) -> dict[str, Any]:
    """Seconds of the chosen contenders on a workload, and ratios; None for what was not measured."""
    ours, limit, limit_width, bound = None, None, None, None
    if "ours" in options.only or "limit" in options.only:
        model = use_layout_attention(load_policy(policy, options.dtype))
        engine = warm_engine(model, policy, workload)
        ours, limit, limit_width = _in_turn(engine, model, workload, options)
        bound = limit and max(limit, longest_trajectory_seconds(model, workload))
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    naive = naive_seconds(load_policy(policy, options.dtype), workload) if "naive" in options.only else None
    trl = run_trl(options.trl_python, policy, workload) if options.trl_python else None
    seconds = ours and ours.seconds
    return {
        "ours_seconds": seconds,
        "limit_seconds": limit,
        "bound_seconds": bound,
        "naive_seconds": naive,
        "trl_seconds": trl and trl.serial_seconds,
        "trl_concurrent_seconds": trl and trl.concurrent_seconds,
        "ours_tokens_per_s": _ratio(workload.sampled_tokens, seconds),
        "ratio_to_limit": _ratio(limit, seconds),
        "ratio_to_bound": _ratio(bound, seconds),
        "speedup_vs_naive": _ratio(naive, seconds),
        "speedup_vs_trl": _ratio(trl and trl.serial_seconds, seconds),
        "speedup_vs_trl_concurrent": _ratio(trl and trl.concurrent_seconds, seconds),
        "prefill_tokens": ours and ours.prefill_tokens,
        "prefill_tokens_minimum": workload.prefill_minimum,
        "peak_memory_mb": peak_memory,
        "limit_width": limit_width,
        **_one_turn(policy, workload, options),
        "trl_batch_size": trl and trl.batch_size,
        "trl_version": trl and trl.version,
    }


def _in_turn(
    engine: Ours, model: PreTrainedModel, workload: Workload, options: BenchOptions
) -> tuple[OursMeasured | None, float | None, int | None]:
    """The fastest runs of ours and of the limit, with the limit's width; None for the one that is left out."""
    ours: list[OursMeasured] = []
    limits: list[tuple[float, int]] = []
    for _ in range(options.repeats):
        if "ours" in options.only:
            ours.append(engine.run(workload))
        if "limit" in options.only:
            fixed = min(limits)[1] if limits else options.limit_width
            limits.append(limit_seconds(model, workload, [fixed] if fixed else candidate_widths(workload)))
    limit, width = min(limits) if limits else (None, None)
    return min(ours, key=lambda run: run.seconds, default=None), limit, width


def longest_trajectory_seconds(model: PreTrainedModel, workload: Workload) -> float:
    """Seconds of the trajectory whose tools take longest, alone on the machine."""
    alone = replace(workload, num_tasks=1, group_size=1, width=1, latency=NO_LATENCY)
    return timed(BareModel(model, alone, 1)) + float(workload.delays.sum(axis=1).max())


def _one_turn(policy: Path, workload: Workload, options: BenchOptions) -> dict[str, float | None]:
    """The limit's decoding beside `generate`, which it must beat: one turn of as many tokens on `width` prompts."""
    if "one_turn" not in options.only:
        return {"one_turn_limit_seconds": None, "one_turn_generate_seconds": None}
    turn_tokens = workload.num_turns * workload.turn_tokens
    one = replace(workload, num_tasks=workload.width, group_size=1, num_turns=1, turn_tokens=turn_tokens, latency=NO_LATENCY)
    model = use_layout_attention(load_policy(policy, options.dtype))
    limit = min(timed(BareModel(model, one, one.width)) for _ in range(2))
    stock = load_policy(policy, options.dtype)
    generate = min(naive_seconds(stock, one) for _ in range(2))
    return {"one_turn_limit_seconds": limit, "one_turn_generate_seconds": generate}


def warm_engine(model: PreTrainedModel, policy: Path, workload: Workload) -> Ours:
    """Our engine on the model that `policy` holds, after an untimed run of one turn on prompts as long as trajectories.

    So its cache is allocated, as the limit's is and as in training.
    """
    engine = Ours(model, PolicyTokenizer.load(policy), workload.width)
    long_prompts = {"num_turns": 1, "turn_tokens": 2, "prompt_tokens": workload.trajectory_tokens - 2}
    engine.run(replace(workload, latency=NO_LATENCY, **long_prompts))
    return engine


def find_policy(name: str, folder: Path) -> Path:
    """The directory of a made-up policy, which is written to `folder` unless it is there, or of a user's model."""
    if name not in POLICIES:
        return Path(name)
    return folder / name if (folder / name).is_dir() else write_policy(name, folder / name)


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below
