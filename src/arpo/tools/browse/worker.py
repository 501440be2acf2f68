"""Extracts texts in worker processes, so that a page that breaks or stalls its parser harms no other page.

A worker reads pages from its standard input and writes their texts to its standard output; each message follows its length in
eight bytes. It gets only the environment variables that Python needs, and at most 2 GiB of memory.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

from arpo.clients.http import HttpError
from arpo.errors import ToolError
from arpo.tools.browse.extract import PageText, extract
from arpo.tools.browse.fetch import Fetched, shorten

_MODULE = "arpo.tools.browse.worker"
NUM_WORKERS = 2
"""Number of workers, each of which extracts one text at a time."""
_MEMORY_BYTES = 2 * 2**30
_MAX_REPLY_BYTES = 256 * 2**20
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")

_threads = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="extract")
_local = threading.local()


async def extract_apart(page: Fetched, max_pdf_pages: int, limit_s: float) -> PageText:
    """As `extract`, in a worker, for at most `limit_s` seconds.

    Raises:
        HttpError: as `extract`; the page took too long, or broke the worker.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, _extract_in_worker, page, max_pdf_pages, limit_s)


def _extract_in_worker(page: Fetched, max_pdf_pages: int, limit_s: float) -> PageText:
    """Extract in the thread's worker; a new worker replaces a broken one."""
    worker: _Worker | None = getattr(_local, "worker", None)
    if worker is None or not worker.is_alive():
        worker = _local.worker = _Worker()
    return worker.extract(page, max_pdf_pages, limit_s)


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,  # Ctrl-C reaches only the parent, which closes the pipe
        )
        self._requests, self._replies = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        try:
            _read(self._replies)  # the worker is ready, so that no page's time limit covers its start
        except EOFError:
            raise ToolError(f"the process that reads pages does not start; try: {sys.executable} -m {_MODULE}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def extract(self, page: Fetched, max_pdf_pages: int, limit_s: float) -> PageText:
        name = shorten(page.url)
        about = {"url": page.url, "media_type": page.media_type, "charset": page.charset, "max_pdf_pages": max_pdf_pages}
        was_late = threading.Event()
        timer = threading.Timer(limit_s, lambda: (was_late.set(), self._process.kill()))
        timer.start()
        try:
            _write(self._requests, json.dumps(about).encode())
            _write(self._requests, page.body)
            reply = json.loads(_read(self._replies))
        except (OSError, EOFError, ValueError):
            self._process.kill()
            self._process.wait()
            reason = f"within {limit_s:g} s" if was_late.is_set() else "without breaking what reads it"
            raise HttpError(f"{name}: its text cannot be extracted {reason}") from None
        finally:
            timer.cancel()
        if "error" in reply:
            raise HttpError(reply["error"])
        return PageText(reply["title"], reply["text"])


def _read(stream: IO[bytes]) -> bytes:
    length = int.from_bytes(_read_exactly(stream, 8), "big")
    if length > _MAX_REPLY_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return _read_exactly(stream, length)


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(8, "big") + message)
    stream.flush()


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps a parser's prints out of the replies
    for package in ("trafilatura", "pypdf"):
        __import__(package)
    _write(replies, b"")
    while True:
        try:
            about = json.loads(_read(sys.stdin.buffer))
            body = _read(sys.stdin.buffer)
        except EOFError:
            return
        page = Fetched(about["url"], about["media_type"], about["charset"], body)
        try:
            read = extract(page, about["max_pdf_pages"])
            reply = {"title": read.title, "text": read.text.encode("utf-8", "replace").decode()}
        except HttpError as error:
            reply = {"error": str(error)}
        _write(replies, json.dumps(reply).encode())


if __name__ == "__main__":
    _main()
