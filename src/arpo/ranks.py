"""What torchrun tells a process by its environment: its rank and how many there are. An error is told once. Torch-free."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

Gather = Callable[[Any], list[Any]]
"""Gives the value of every process of a run for that of this one, in the order of ranks."""

_ERROR_KEY = "arpo/first_error"
_STORE_TIMEOUT = timedelta(seconds=10)


def num_ranks() -> int:
    """Processes that torchrun started, on all machines; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def current_rank() -> int:
    """The rank of this process; 0 without torchrun."""
    return int(os.environ["RANK"]) if num_ranks() > 1 else 0


def is_main() -> bool:
    """Whether this is rank 0, which alone writes and prints."""
    return current_rank() == 0


def alone(value: Any) -> list[Any]:
    """The `Gather` of a single process."""
    return [value]


def launcher() -> str:
    """The start of a command line for as many processes: `torchrun --nproc-per-node 2 -m arpo`, or `arpo`.

    On several machines torchrun's options of nodes and rendezvous come besides.
    """
    if num_ranks() == 1:
        return "arpo"
    return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', num_ranks())} -m arpo"


def tell_error(tell: Callable[[], None]) -> None:
    """Tell an error, unless another process of the run has told one: the first that comes here does.

    The processes ask torchrun's store. The others wait until the error is told, as torchrun ends all once one has ended.
    Without an answer of the store, rank 0 tells.
    """
    if num_ranks() == 1:
        tell()
        return
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    key = f"{_ERROR_KEY}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=_STORE_TIMEOUT)
        is_first = int(store.add(key, 1)) == 1
    except (KeyError, ValueError, RuntimeError):  # torch's errors of a store that is gone are RuntimeErrors
        if is_main():
            tell()
        return
    if is_first:
        tell()
    with suppress(RuntimeError):
        if is_first:
            store.set(f"{key}/told", "")
        else:
            store.wait([f"{key}/told"], _STORE_TIMEOUT)
