"""Sandboxes in each isolation this machine has, and what they leave behind."""

import asyncio
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


def processes_of(sandbox: PythonSandbox) -> list[int]:
    """Ids of the sandbox's processes, parents before children; the zygote is the last when no program runs."""
    found = [sandbox._zygote._process.pid]
    for pid in found:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found += [int(child) for child in children.read_text().split()] if children.exists() else []
    return found


def leftovers(sandbox: PythonSandbox) -> dict[str, object]:
    """What a program could leave behind: processes, scratch folders, open descriptors of the zygote and of this process."""
    processes = processes_of(sandbox)
    zygote = processes[-1]
    root = sandbox._zygote._scratch_root
    return {
        "processes": processes,
        "folders": os.listdir(root if root is not None else f"/proc/{zygote}/root/scratch"),
        "zygote's descriptors": len(os.listdir(f"/proc/{zygote}/fd")),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
