"""Sandboxes in each isolation this machine has, and what they leave behind."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arpo.errors import ToolError
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig


def open_sandbox(**settings: object) -> PythonSandbox:
    try:
        return PythonSandbox(PythonSandboxConfig.model_validate(settings))
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[PythonSandbox]:
    tool = open_sandbox(isolation=request.param, wall_s=60, cpu_s=30)
    yield tool
    asyncio.run(tool.aclose())


def descendants(pid: int) -> list[int]:
    """A process and all below it, parents before children."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return found


def processes_of(sandbox: PythonSandbox) -> list[int]:
    """Ids of the sandbox's processes; the zygote is the last when no program runs."""
    return descendants(sandbox._zygote._process.pid)


IDLE_DESCRIPTORS = 5
"""Of a zygote without programs: three standard streams, the socket to arpo, the poll."""


async def leftovers(sandbox: PythonSandbox) -> dict[str, object]:
    """What programs could leave behind, once the zygote has had time to close what it has just replied on."""
    processes = processes_of(sandbox)
    zygote = processes[-1]
    for _ in range(200):
        if len(os.listdir(f"/proc/{zygote}/fd")) == IDLE_DESCRIPTORS:
            break
        await asyncio.sleep(0.05)
    root = sandbox._zygote._scratch_root
    return {
        "processes": processes,
        "folders": os.listdir(root if root is not None else f"/proc/{zygote}/root/scratch"),
        "zygote's descriptors": len(os.listdir(f"/proc/{zygote}/fd")),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
