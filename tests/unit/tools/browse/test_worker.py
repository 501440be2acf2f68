"""Texts extracted apart: the same texts, and what happens when a page breaks or stalls the process that reads it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from arpo.clients.http import HttpError
from arpo.tools.browse import worker
from arpo.tools.browse.extract import extract
from arpo.tools.browse.fetch import Fetched

PAGE = Fetched("http://x/p", "text/html", "", "<title>T</title><p>Kélford is a town \ud83d</p>".encode("utf-8", "replace"))


async def test_the_texts_are_those_of_this_process():
    pages = [Fetched("http://x", "text/plain", "", f"page {i} é".encode() * 10_000) for i in range(8)]
    read = await asyncio.gather(*(worker.extract_apart(page, 10, 30) for page in [PAGE, *pages]))
    assert read == [extract(page, 10) for page in [PAGE, *pages]]
    with pytest.raises(HttpError, match=r"^http://x: holds image/png, which is not text$"):
        await worker.extract_apart(Fetched("http://x", "image/png", "", b""), 10, 30)


def test_a_worker_that_stalls_or_breaks_costs_one_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BRAVE_API_KEY", "sk-very-secret-value")
    reads = worker._Worker()
    assert reads.extract(PAGE, 10, 30).title == "T"
    assert b"sk-very-secret" not in Path(f"/proc/{reads.pid}/environ").read_bytes(), "what reads pages holds no keys"
    os.kill(reads.pid, signal.SIGSTOP)  # as busy as a process can be
    with pytest.raises(HttpError, match=r"http://x/p: its text cannot be extracted within 0\.2 s"):
        reads.extract(PAGE, 10, 0.2)
    assert not reads.is_alive()

    reads = worker._Worker()
    os.kill(reads.pid, signal.SIGSEGV)
    with pytest.raises(HttpError, match="cannot be extracted without breaking what reads it"):
        reads.extract(PAGE, 10, 30)
    assert not reads.is_alive()


async def test_after_a_broken_worker_the_next_page_is_read():
    pages = [worker.extract_apart(PAGE, 10, 30 if i % 2 else 1e-9) for i in range(4)]
    results = await asyncio.gather(*pages, return_exceptions=True)
    assert [getattr(r, "title", "") for r in results[1::2]] == ["T", "T"]
    assert all(isinstance(r, HttpError) for r in results[::2])
