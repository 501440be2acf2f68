"""Locks of folders: one process at a time writes."""

import fcntl
import os
from pathlib import Path

from arpo.errors import RunError

LOCK_NAME = ".lock"
"""Name of the locked file in the folder."""


def take_lock(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed or this process dies.

    A POSIX record lock belongs to this process alone: a child that outlives a killed process does not hold it.

    Raises:
        RunError: another process holds the lock.
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
