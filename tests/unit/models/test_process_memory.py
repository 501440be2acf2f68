"""Freed pages go back to the system."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arpo.models.process_memory import peak_memory_mb, release_free_pages


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024


@contextmanager
def kept_pages() -> Iterator[float]:
    """100 MiB freed in blocks of 50 kB below blocks still in use, which an allocator keeps; gives the resident size before."""
    before = resident_mb()
    blocks = [(bytearray(50_000), bytearray(600)) for _ in range(2_000)]
    small = [small for _, small in blocks]
    del blocks
    yield before
    del small


def test_pages_freed_below_blocks_in_use_are_given_back():
    release_free_pages()
    with kept_pages() as before:
        if resident_mb() < before + 60:
            pytest.skip("this C library gives freed pages back by itself")
        release_free_pages()
        assert resident_mb() < before + 20
    assert peak_memory_mb() >= before + 60
