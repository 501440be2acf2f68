"""Folders that one process at a time writes to."""

import fcntl
import os
from pathlib import Path

from arpo.errors import RunError

LOCK_NAME = ".lock"
"""The file in the folder that is locked."""


def take_lock(folder: Path) -> int:
    """Hold a folder until the returned descriptor is closed or this process dies.

    It is a POSIX record lock: it belongs to this process alone, so a child that outlives a killed process cannot keep it.

    Raises:
        RunError: another process holds the folder.
    """
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise RunError(f"{folder}: in use by process {holder}; wait for it to end or stop it") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock
