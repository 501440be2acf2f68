"""Compares formulas with math-verify, in separate processes.

Symbolic algebra can run for hours or fill the memory on a formula of a model, and a Python signal handler does not interrupt
one long integer operation. So worker processes compare, under limits of the system: 2 seconds of computing per comparison (not
of waiting: a busy machine changes no verdict) and 2 GiB. A worker is two processes: one has math-verify loaded and waits, the
other is its fork and compares; when a limit ends the fork, the next one starts in milliseconds. Only math-verify's LaTeX
grammar is used; its other parser evaluates the text as Python.
"""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from functools import lru_cache
from typing import IO, Literal, cast

from arpo.errors import RunError

COMPARISON_SECONDS = 2.0
"""Most CPU seconds one comparison may take."""
MEMORY_BYTES = 2 * 1024**3
MAX_LENGTH = 500
NUM_WORKERS = min(4, os.cpu_count() or 1)

Verdict = Literal["equal", "different", "unread", "too_long", "gave_up"]
"""`unread`: one is no formula; `too_long`: of more than 500 characters; `gave_up`: a limit was reached."""


@lru_cache(maxsize=10_000)
def compare(answer: str, reference: str) -> Verdict:
    r"""The verdict on two formulas, in either order: `\dfrac{1}{2}` and `0.5`, `x = 3` and `3` are equal.

    math-verify alone takes a percentage for its number, a tuple for a set, metres for miles and `1010_2` for `1010`;
    `rewards.formulas` decides these first.

    Raises:
        RunError: math-verify cannot be started.
    """
    if max(len(answer), len(reference)) > MAX_LENGTH:
        return "too_long"
    worker = _workers.get()
    try:
        return worker.compare(answer, reference)
    finally:
        _workers.put(worker)


class _Process(subprocess.Popen[bytes]):
    """With both pipes."""

    stdin: IO[bytes]
    stdout: IO[bytes]


class _Worker:
    """The processes that compare, started on first use and again after a kill."""

    def __init__(self) -> None:
        self._process: _Process | None = None

    def compare(self, answer: str, reference: str) -> Verdict:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        line = b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps([answer, reference, COMPARISON_SECONDS]).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:  # both of its processes were killed, by the system or a person
            self.stop()
        return cast(Verdict, line.decode().strip()) if line else "gave_up"

    def _start(self) -> "_Process":
        command = [sys.executable, "-m", "arpo.rewards.maths"]
        pipe = subprocess.PIPE
        # in its own process group: Ctrl-C reaches the run alone, which may still need the verdict
        self._process = _Process(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, process_group=0)
        if self._process.stdout.readline() != b"ready\n":
            self.stop()
            raise RunError("math-verify: its process did not start; `python -m arpo.rewards.maths` shows why")
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            self._process = None


def _serve() -> None:
    """The worker: reads a pair of formulas and seconds per line, writes a verdict per line."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for warm_up in (("x=1", "[0, 1)"), (r"\frac{1}{2}", r"\sqrt{2}"), (r"\{1, a\}", r"\{1, b\}")):
        _verdict(*warm_up)  # loads and compiles once, not in every fork
    print("ready", flush=True)
    while True:
        child = os.fork()
        if child == 0:
            _follow_parent()
            _answer_lines()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:  # no more lines
            return
        print("gave_up", flush=True)


def _answer_lines() -> None:
    for line in sys.stdin:
        answer, reference, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # unhandled, SIGPROF ends the process, whatever it is computing
        try:
            verdict = _verdict(answer, reference)
        except MemoryError:
            os._exit(1)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        print(verdict, flush=True)


def _verdict(answer: str, reference: str) -> Verdict:
    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    def read(text: str) -> list[object]:
        text = text if text.startswith("$") else f"${text}$"
        return parse(text, extraction_config=[LatexExtractionConfig()], parsing_timeout=None)  # pyright: ignore[reportArgumentType]

    try:
        a, b = read(answer), read(reference)
        if not a or not b:
            return "unread"
        # "0 <= x <= 1" and "[0, 1]" are equal in one order only
        is_equal = any(verify(x, y, timeout_seconds=None) for x, y in ((b, a), (a, b)))  # pyright: ignore[reportArgumentType]
    except MemoryError:
        raise
    except Exception:  # any error of the parser means that it cannot read the formula
        return "unread"
    return "equal" if is_equal else "different"


def _follow_parent() -> None:
    """Die with the parent process, where the system supports it."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_workers: "queue.LifoQueue[_Worker]" = queue.LifoQueue()
_all = [_Worker() for _ in range(NUM_WORKERS)]
for _worker in _all:
    _workers.put(_worker)
    atexit.register(_worker.stop)

if __name__ == "__main__":
    _serve()
