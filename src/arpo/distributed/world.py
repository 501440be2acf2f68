"""The processes of a run, and what they tell each other.

Every rank runs the same program on the same configuration. What differs is said here: a rank's share of the work, and rank 0,
which alone writes, prints and holds the lock. A world of one does nothing.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from arpo.distributed.config import DistributedConfig
from arpo.errors import ArpoError, ConfigError, RunError
from arpo.ranks import current_rank, num_ranks

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The ranks of a run.

    Example: with 2 ranks, `world.gather(world.rank)` is [0, 1] on both.
    """

    rank: int
    """Of this process, from 0."""
    size: int
    """Number of processes."""
    mesh: DeviceMesh | None = None
    """The ranks' devices, over which weights are sharded; None in a world of one."""
    objects: dist.ProcessGroup | None = None
    """The group through which Python objects pass; None in a world of one."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in the order of ranks, on every rank. Values are pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.objects)
        return cast(list[T], values)

    def from_main(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        if self.size == 1:
            return value
        values: list[Any] = [value if self.is_main else None]
        dist.broadcast_object_list(values, src=0, group=self.objects)
        return cast(T, values[0])

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums over ranks of some numbers, added in the order of ranks, so that they are the same on every rank."""
        return [sum(column) for column in zip(*self.gather([*values]), strict=True)] if self.size > 1 else [*values]

    def any(self, value: bool) -> bool:
        """Whether it holds on any rank."""
        return any(self.gather(value))

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this rank: every `size`-th from `rank`.

        Example: items a b c d e are a c e on rank 0 of 2, and b d on rank 1.
        """
        return items[self.rank :: self.size]

    def wait(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier(group=self.objects)

    def main_first(self, act: Callable[[], T]) -> T:
        """The result of `act`, on rank 0 before it begins on the others; they then find what it fetched or made."""
        if self.is_main:
            result = act()
            self.wait()
            return result
        self.wait()
        return act()


ALONE = World(0, 1)
"""The world of one process, without torchrun."""


def rank_device(device: str) -> str:
    """The device of this rank: of several GPUs, "cuda" is the one with the process's number on its machine.

    Raises:
        ConfigError: the device is one GPU, and there are several ranks.
    """
    if num_ranks() == 1 or device == "cpu":
        return device
    if device != "cuda":
        raise ConfigError(
            f"model.device = {device!r}: torchrun started {num_ranks()} processes; set it to 'cuda', a GPU for each"
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


@contextmanager
def open_world(config: DistributedConfig, device: str, go_on: Callable[[], str]) -> Iterator[World]:
    """The world that torchrun made, by its environment variables; a world of one without it.

    Within the context, a rank that loses another one, or is told to end, raises.

    Args:
        config: How long to wait.
        device: Of the model: "cpu" connects by gloo, "cuda" by NCCL (and gloo for Python objects).
        go_on: What the message of a lost rank says at its end: how to go on.

    Raises:
        RunError: a rank ended or did not answer in time.
    """
    if num_ranks() == 1:
        yield ALONE
        return
    timeout = timedelta(seconds=config.timeout_seconds)
    kind = device.partition(":")[0]
    if kind == "cuda":
        torch.cuda.set_device(rank_device(device))
    rank, size = current_rank(), num_ranks()
    try:
        backends, store = "gloo" if kind == "cpu" else f"{kind}:nccl,cpu:gloo", _store_of_attempt(timeout)
        where = {} if store is None else {"store": store, "rank": rank, "world_size": size}
        dist.init_process_group(backends, timeout=timeout, **where)
        objects = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timeout))
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"torchrun: the {num_ranks()} processes could not connect ({_first_line(error)}); start it again"
        ) from error
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield World(rank, size, init_device_mesh(kind, (size,)), objects)
    except _RankEndedError as error:
        what = "torchrun ended this process, as another one failed or was killed"
        raise RunError(f"rank {rank} of {size}: {what}; {go_on()}") from error
    except RuntimeError as error:
        if not is_lost_rank(error):
            raise
        limit = f"did not answer within distributed.timeout_seconds = {config.timeout_seconds:g}"
        what = limit if "imed out" in str(error) else "failed or was killed"
        raise RunError(f"rank {rank} of {size}: another rank {what} ({_first_line(error)[:160]}); {go_on()}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
        if dist.is_initialized():
            dist.destroy_process_group()


def _store_of_attempt(timeout: timedelta) -> Any:
    """The store of torchrun with keys of this attempt alone; None: torch connects by itself.

    On one machine torchrun keeps its store over restarts, and torch's keys are the same in each: a restarted rank that reads
    before another one writes would connect to an address of the former attempt. Several machines count their restarts each
    for itself, so that they could not agree on a key.
    """
    environment = os.environ
    is_one_machine = environment.get("LOCAL_WORLD_SIZE") == environment.get("WORLD_SIZE")
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or not is_one_machine:
        return None
    store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False, wait_for_workers=False, timeout=timeout
    )
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"arpo/{attempt}", store)  # pyright: ignore[reportPrivateImportUsage]


_SIGNS = ("gloo", "Gloo", "NCCL", "Connection reset", "Connection closed", "TCPStore", "imed out")
"""In the messages of a lost rank, which torch raises as plain RuntimeErrors."""


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error says that another rank ended or did not answer; `open_world` turns it into a message."""
    if isinstance(error, ArpoError) or not isinstance(error, RuntimeError):
        return False
    return any(sign in str(error) for sign in _SIGNS)


class _RankEndedError(SystemExit):
    """SIGTERM, by which torchrun ends the ranks that are left when one has failed; no loop or task holds it back."""


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _RankEndedError


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
