"""`arpo bench memory`: what each phase of training takes, measured in new processes beside what `arpo doctor` says."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo.config import parse_config
from arpo.lab.bench.machine import machine
from arpo.lab.bench.memory_phase import PhaseRequest, measure_phase
from arpo.lab.bench.policies import POLICIES, write_policy
from arpo.lab.bench.report import Report
from arpo.tracking.progress import Progress
from arpo.training.config import RlRun
from arpo.training.memory import MemoryEstimate, estimate_memory

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, checkpointing": {"gradient_checkpointing": True},
    "LoRA": {"lora": {"rank": 16}},
    "LoRA, checkpointing": {"lora": {"rank": 16}, "gradient_checkpointing": True},
}
"""By the name in the results: keys of `model`."""
PHASES = ("sampling", "log-probs", "update")
_EXACT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""With these glibc returns a freed tensor to the system at once."""
_UNUSED = {"sampling": ("masters", "optimizer moments"), "log-probs": ("masters", "optimizer moments"), "update": ()}
"""Rows that the process of a phase does not have, as it runs that phase alone."""

MEMORY_REPORT = Report(
    command="arpo bench memory",
    title="Memory of training, predicted and measured",
    explanation="""\
Each line is the largest of several runs of one phase, each in a new process: the growth of its resident memory above what it
had after all imports and a pass of a model of 1 M parameters, at which libraries load their kernels. *Predicted* is what
`arpo doctor` says of the same configuration, without the rows of other phases (a process that only samples has no optimizer).
The trees have 16 leaves, which share half of their tokens; the prediction knows the configuration alone. *Measured* has an
allocator that returns freed tensors to the system at once (`MALLOC_MMAP_THRESHOLD_=65536`); *as installed* is glibc's default,
which keeps freed memory between tensors. *Seconds*: of the last update, or of the phase.""",
    columns={
        "cases": {
            "model": "model", "dtype": "format", "variant": "training", "phase": "phase", "tokens": "tokens a pass",
            "predicted_mb": "predicted, MB", "measured_mb": "measured, MB", "ratio": "predicted / measured",
            "default_mb": "as installed, MB", "seconds": "seconds",
        },
    },
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBenchOptions:
    """What to measure."""

    models: Sequence[str]
    """Names of `policies.POLICIES`, or model directories."""
    dtypes: Sequence[str]
    """Number formats."""
    variants: Sequence[str] = tuple(VARIANTS)
    """Keys of `VARIANTS`."""
    phases: Sequence[str] = PHASES
    """Phases; sampling and log-probs are measured for `full` alone, as a variant changes nothing there."""
    max_tokens: int = 1024
    """Packed tokens of a pass."""
    longest: int = 256
    """Tokens of each trajectory."""
    repeats: int = 3
    """Runs; the largest counts."""
    num_threads: int = 1
    """Threads of torch."""


def run(options: MemoryBenchOptions, progress: Progress) -> Iterator[dict[str, Any]]:
    """Measure case by case; after each yield the content of the JSON file so far."""
    cases = [
        (model, dtype, variant, phase)
        for model in options.models
        for dtype in options.dtypes
        for variant in options.variants
        for phase in options.phases
        if phase == "update" or variant == "full"
    ]
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack, progress.phase("bench", total=len(cases), unit="case") as phase_progress:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for model, dtype, variant, phase in cases:
            path = Path(model)
            if model in POLICIES:
                path = folder / model if (folder / model).is_dir() else write_policy(model, folder / model)
            rows.append(_compare(path, model, dtype, variant, phase, options))
            phase_progress.advance(1, ratio=rows[-1]["ratio"])
            yield {"machine": {**machine(), "threads": options.num_threads}, "cases": rows}


def _compare(path: Path, model: str, dtype: str, variant: str, phase: str, options: MemoryBenchOptions) -> dict[str, Any]:
    run_values = bench_run(path, dtype, variant, options)
    predicted = predicted_mb(estimate_memory(parse_config(RlRun, run_values, "the bench")), phase)
    request = PhaseRequest(phase=phase, run=run_values, num_threads=options.num_threads)
    exact = [measure_phase(request, _EXACT) for _ in range(options.repeats)]
    default = [measure_phase(request, {}) for _ in range(options.repeats)]
    measured = max(found["mb"] for found in exact)
    return {
        "model": Path(model).name,
        "dtype": dtype,
        "variant": variant,
        "phase": phase,
        "tokens": options.max_tokens,
        "predicted_mb": predicted,
        "measured_mb": measured,
        "ratio": predicted / measured,
        "default_mb": max(found["mb"] for found in default),
        "seconds": min(found["seconds"] for found in default),
    }


def bench_run(path: Path, dtype: str, variant: str, options: MemoryBenchOptions) -> dict[str, Any]:
    """A run of two trees of 16 leaves per step, with one pass of `max_tokens` after the other."""
    limits = {"max_trajectory_tokens": options.longest, "max_turn_tokens": options.longest}
    return {
        "out": "runs/bench", "tasks": "none", "tasks_per_step": 2, "rollout": {"group_size": 16},
        "model": {"path": str(path), "dtype": dtype, **VARIANTS[variant]}, "batching": {"max_tokens": options.max_tokens},
        "agent": {"limits": limits, "protocol": {"tools": [], "system_prompt": ""}},
    }  # fmt: skip


def predicted_mb(estimate: MemoryEstimate, phase: str) -> float:
    """What a process that runs one phase alone should take, MiB."""
    rows = next(p.rows for p in estimate.phases if p.name == phase)
    return sum(size for name, size in rows.items() if name not in _UNUSED[phase]) / 2**20
