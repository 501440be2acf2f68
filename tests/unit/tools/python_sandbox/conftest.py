"""Sandboxes in each isolation this machine has, and what they leave behind."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arpo.errors import ToolError
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig

from .attacks import Host


def open_sandbox(**settings: object) -> PythonSandbox:
    try:
        return PythonSandbox(PythonSandboxConfig.model_validate({"preload": (), **settings}))
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[PythonSandbox]:
    tool = open_sandbox(isolation=request.param, wall_s=60, cpu_s=30)
    yield tool
    asyncio.run(tool.aclose())


def descendants(pid: int) -> list[int]:
    """A process and all below it, parents before children."""
    pids = [pid]
    for parent in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            pids += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return pids


def processes_of(sandbox: PythonSandbox) -> list[int]:
    """Ids of the sandbox's processes; the zygote is the last when no program runs."""
    return sandbox.host.zygote.processes()


def zygote_of(sandbox: PythonSandbox) -> int:
    """Id of the zygote: below bubblewrap's two processes, where that is what isolates it."""
    return processes_of(sandbox)[2 if sandbox.host.isolation == "bubblewrap" else 0]


def count_leftovers(sandbox: PythonSandbox) -> dict[str, int]:
    """Counts of possible leftovers of programs, without waiting processes and their scratch folders."""
    zygote = zygote_of(sandbox)
    folders = [Path(root, f) for root in (sandbox.host.zygote.scratch_folder or f"/proc/{zygote}/root/scratch",)
               for f in os.listdir(root)]  # fmt: skip
    waiting = len(sandbox.host._ready)
    return {
        "processes": len(processes_of(sandbox)) - waiting,
        "files": sum(len(os.listdir(folder)) for folder in folders),
        "zygote's descriptors": len(os.listdir(f"/proc/{zygote}/fd")) - 3 * waiting - len(folders),
        "descriptors": len(os.listdir("/proc/self/fd")) - 5 * waiting,
    }


async def leftovers(sandbox: PythonSandbox, before: dict[str, int] | None = None) -> dict[str, int]:
    """Counts once the zygote is idle: waits up to 10 s until they equal `before`."""
    idle = 3 if sandbox.host.isolation == "bubblewrap" else 1
    earlier: dict[str, int] | None = None
    for _ in range(100):
        await asyncio.sleep(0.1)
        counts = count_leftovers(sandbox)
        if counts == before or (before is None and counts == earlier and counts["processes"] == idle):
            break
        earlier = counts
    return counts


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    (folder / "secret").write_text("the host's secret")
    (folder / "settings.py").write_text("TOKEN = 'hunter2'")
    folder.chmod(0o755)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as victim,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "unix"))
        unix.listen(16)
        abstract.bind(f"\0arpo-test-{os.getpid()}")
        abstract.listen(16)
        yield Host(
            secret=folder / "secret",
            outside=folder,
            tcp_port=tcp.getsockname()[1],
            udp_port=udp.getsockname()[1],
            unix=str(folder / "unix"),
            abstract=f"arpo-test-{os.getpid()}",
            victim=victim.pid,
        )
        victim.kill()
