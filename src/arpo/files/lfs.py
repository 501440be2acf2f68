"""Git LFS pointers: small text files that stand for large ones where `git lfs` did not run."""

from contextlib import suppress
from pathlib import Path

_POINTER = b"version https://git-lfs"


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer; False for a file that cannot be read, as who reads it says why."""
    with suppress(OSError), path.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER
    return False
