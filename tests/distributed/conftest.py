"""Ranks as forks of this process, which has imported everything already, connected by gloo."""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from arpo.distributed.config import DistributedConfig
from arpo.distributed.world import World, open_world

TIMEOUT_S = 60.0
Work = Callable[[World], Any]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run_rank(rank: int, size: int, port: int, work: Work, folder: Path, timeout_seconds: float) -> int:
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"} | {name: str(value) for name, value in where.items()}
    try:
        with ExitStack() as stack:
            config = DistributedConfig(timeout_seconds=timeout_seconds)
            world = stack.enter_context(open_world(config, "cpu", lambda: "go on with `x`"))
            (folder / f"{rank}.pickle").write_bytes(pickle.dumps(work(world)))
        return 0
    except BaseException:  # told to the parent, as this is a fork of pytest
        (folder / f"{rank}.error").write_text(traceback.format_exc())
        return 1


class Ranks:
    """Forks of this process that run a function as the ranks of a world."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._num_runs = 0

    def __call__(self, size: int, work: Work, timeout_seconds: float = TIMEOUT_S) -> list[Any]:
        """What `work(world)` returns on each rank; AssertionError with the trace of a rank that failed."""
        folder, errors = self.run(size, work, timeout_seconds)
        assert not errors, "\n".join(errors.values())
        return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(size)]

    def run(self, size: int, work: Work, timeout_seconds: float = TIMEOUT_S) -> tuple[Path, dict[int, str]]:
        """Run; return the folder of the results, and the traces of ranks that failed."""
        self._num_runs += 1
        folder = self._folder / str(self._num_runs)
        folder.mkdir()
        port = _free_port()
        sys.stdout.flush()
        sys.stderr.flush()
        children: list[int] = []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                os._exit(_run_rank(rank, size, port, work, folder, timeout_seconds))
            children.append(child)
        self._wait(children)
        return folder, {int(p.stem): f"rank {p.stem}: {p.read_text()}" for p in sorted(folder.glob("*.error"))}

    def _wait(self, children: list[int]) -> None:
        deadline, left = time.monotonic() + 4 * TIMEOUT_S, set(children)
        while left and time.monotonic() < deadline:
            left = {child for child in left if os.waitpid(child, os.WNOHANG) == (0, 0)}
            time.sleep(0.01)
        for child in left:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert not left, "ranks did not end"


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """Runs a function on ranks."""
    return Ranks(tmp_path_factory.mktemp("ranks"))
