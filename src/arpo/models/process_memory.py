"""The memory of this process: its peak, and free pages that go back to the system."""

import ctypes
import resource

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def release_free_pages() -> None:
    """Give the pages that Python and torch freed back to the system; nothing where the C library is not glibc.

    glibc keeps freed pages below blocks still in use, so a process whose passes differ in size grows from pass to pass.
    """
    if _TRIM is not None:
        _TRIM(0)


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, MiB.

    The sandbox's processes, some 20 MB, are left out: the system's value for a child starts with its parent's size at the fork,
    which would count this process twice.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
