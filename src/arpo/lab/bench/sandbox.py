"""`arpo bench sandbox`: the cost of a call of the Python tool, and what many calls leave behind."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from arpo.errors import ToolError
from arpo.lab.bench.machine import machine, process_mb
from arpo.lab.bench.report import Report
from arpo.tools.base import Tool
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig
from arpo.tracking.progress import Progress

Isolation = Literal["bubblewrap", "landlock"]
ISOLATIONS: tuple[Isolation, ...] = ("bubblewrap", "landlock")

_PROGRAM = "import numpy, sympy\nprint(numpy.arange({n}).sum(), sympy.Integer({n}) ** 2)"
_SETTLE_S = 10.0
_COUNTED = ("processes", "descriptors", "folders")

SANDBOX_REPORT = Report(
    command="arpo bench sandbox",
    title="Speed of the Python sandbox",
    explanation="""\
A program that imports numpy and sympy, both preloaded, and computes and prints two numbers. *Call*: one after another, each in
a fresh confined process. *Calls/s*: as many at a time as the machine has cores. *Session*: the next program of a trajectory in
mode `session`. *Branch*: the first program of a branch after five programs, which are run again for it. *Left behind*: what
there is more after all calls than before: processes, open descriptors of arpo and of the zygote, folders, and MiB of resident
memory of both.""",
    columns={
        "cases": {
            "isolation": "isolation",
            "start_seconds": "start, s",
            "call_median_ms": "call, median ms",
            "call_p95_ms": "call, p95 ms",
            "calls_per_s": "calls/s",
            "at_a_time": "at a time",
            "session_median_ms": "session, median ms",
            "branch_median_ms": "branch, median ms",
        },
        "leaks": {
            "isolation": "isolation",
            "calls": "calls",
            "processes": "processes left",
            "descriptors": "descriptors left",
            "folders": "folders left",
            "arpo_mb": "arpo, MiB more",
            "zygote_mb": "zygote, MiB more",
        },
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxBenchOptions:
    """What to measure and how often."""

    isolations: Sequence[Isolation] = ISOLATIONS
    """Isolations to measure; one that does not work here is left out."""
    calls: int = 200
    """Timed calls per number."""
    leak_calls: int = 0
    """Calls after which leftovers are counted; 0: they are not counted."""


def run(options: SandboxBenchOptions, progress: Progress) -> dict[str, Any]:
    """Measure every isolation that works here; return the content of the JSON file.

    Raises:
        ToolError: none of them works.
    """
    cases: list[dict[str, Any]] = []
    leaks: list[dict[str, Any]] = []
    failures: list[str] = []
    with progress.phase("bench", total=len(options.isolations), unit="isolation") as phase:
        for isolation in options.isolations:
            try:
                cases.append({"isolation": isolation, **asyncio.run(_measure(isolation, options.calls))})
            except ToolError as error:
                failures.append(str(error))
                continue
            if options.leak_calls:
                leaks.append({"isolation": isolation, **asyncio.run(_count_leaks(isolation, options.leak_calls))})
            phase.advance(calls_per_s=cases[-1]["calls_per_s"])
    if not cases:
        raise ToolError("; ".join(failures))
    return {"machine": machine(), "cases": cases, "leaks": leaks}


async def _measure(isolation: Isolation, calls: int) -> dict[str, Any]:
    at_a_time = os.cpu_count() or 1
    started = time.perf_counter()
    fresh = PythonSandbox(PythonSandboxConfig(isolation=isolation, concurrency=at_a_time))
    start_seconds = time.perf_counter() - started
    await _call_all(fresh, calls // 10 + 1, at_a_time)
    serial = [await _timed(fresh, n) for n in range(calls)]
    started = time.perf_counter()
    await _call_all(fresh, calls, at_a_time)
    calls_per_s = calls / (time.perf_counter() - started)
    await fresh.aclose()
    session, branch = await _measure_sessions(isolation, calls)
    return {
        "start_seconds": start_seconds,
        "call_median_ms": 1000 * median(serial),
        "call_p95_ms": 1000 * sorted(serial)[95 * len(serial) // 100],
        "calls_per_s": calls_per_s,
        "at_a_time": at_a_time,
        "session_median_ms": 1000 * median(session),
        "branch_median_ms": 1000 * median(branch),
    }


async def _measure_sessions(isolation: Isolation, calls: int) -> tuple[list[float], list[float]]:
    """Seconds of later programs of a session, and of the first programs of branches."""
    sandbox = PythonSandbox(PythonSandboxConfig(mode="session", isolation=isolation))
    following: list[float] = []
    branching: list[float] = []
    for _ in range(max(1, calls // 10)):
        session = sandbox.fork()
        await _call(session, 0)
        following += [await _timed(session, n) for n in range(4)]
        branch = session.fork()
        branching.append(await _timed(branch, 5))
        await session.aclose()
        await branch.aclose()
    await sandbox.aclose()
    return following, branching


async def _count_leaks(isolation: Isolation, calls: int) -> dict[str, Any]:
    at_a_time = os.cpu_count() or 1
    sandbox = PythonSandbox(PythonSandboxConfig(isolation=isolation, concurrency=at_a_time))
    await _call_all(sandbox, 100, at_a_time)  # buffers grow to their size
    before = await _settled(sandbox, None)
    await _call_all(sandbox, calls, at_a_time)
    after = await _settled(sandbox, before)
    await sandbox.aclose()
    return {"calls": calls, **{name: after[name] - before[name] for name in before}}


async def _call_all(sandbox: PythonSandbox, calls: int, at_a_time: int) -> None:
    numbers = iter(range(calls))

    async def work() -> None:
        for n in numbers:
            await _call(sandbox, n)

    await asyncio.gather(*(work() for _ in range(at_a_time)))


async def _call(tool: Tool, n: int) -> None:
    result = await tool.run({"code": _PROGRAM.format(n=n)})
    if result.content != f"{n * (n - 1) // 2} {n * n}":
        raise ToolError(f"arpo bench sandbox: call {n} gave {result.content!r}")


async def _timed(tool: Tool, n: int) -> float:
    started = time.perf_counter()
    await _call(tool, n)
    return time.perf_counter() - started


async def _settled(sandbox: PythonSandbox, expected: dict[str, float] | None) -> dict[str, float]:
    """The resources in use once the zygote has cleaned up after its last reply, or its time for that is over."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        await asyncio.sleep(0.2)
        resources = _resources(sandbox)
        if expected is None or all(resources[k] <= expected[k] for k in _COUNTED) or time.monotonic() > deadline:
            return resources


def _resources(sandbox: PythonSandbox) -> dict[str, float]:
    processes = sandbox.host.zygote.processes()
    zygote = processes[2 if sandbox.host.isolation == "bubblewrap" else 0]  # below bubblewrap's own two
    scratch = sandbox.host.zygote.scratch_folder or f"/proc/{zygote}/root/scratch"
    return {
        "processes": len(processes),
        "descriptors": len(os.listdir("/proc/self/fd")) + len(os.listdir(f"/proc/{zygote}/fd")),
        "folders": len(os.listdir(scratch)),
        "arpo_mb": process_mb("VmRSS") or 0.0,
        "zygote_mb": process_mb("VmRSS", zygote) or 0.0,
    }
