"""Whether two formulas are equal, decided by math-verify in a process of its own.

Symbolic algebra can run for hours or fill the memory on a formula a model wrote, and a signal does not interrupt it inside one
long integer operation. So a worker process does the work, with a limit on its memory, and is killed when it overruns its time.
Only math-verify's LaTeX grammar is used; its other parser evaluates the text as Python.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from functools import lru_cache

from arpo.errors import RunError

COMPARISON_SECONDS = 5.0
START_SECONDS = 60.0
MEMORY_BYTES = 2 * 1024**3
MAX_LENGTH = 500


@lru_cache(maxsize=10_000)
def math_equal(answer: str, reference: str) -> bool:
    r"""True when both are formulas and equal as such: `\dfrac{1}{2}` and `0.5`, `x = 3` and `3`.

    False as well when one cannot be read, is longer than 500 characters, or no verdict is reached within 5 seconds.
    """
    if max(len(answer), len(reference)) > MAX_LENGTH:
        return False
    return _worker.compare(answer, reference)


class _Worker:
    """The process that compares, started on first use and started again after it had to be killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def compare(self, answer: str, reference: str) -> bool:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps([answer, reference]).encode() + b"\n")
                self._process.stdin.flush()
                line = self._read_line(COMPARISON_SECONDS)
            except BrokenPipeError:  # it died of the memory limit
                line = b""
            if not line:
                self.stop()
            return line == b"true\n"

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "arpo.rewards.maths"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._read_line(START_SECONDS) != b"ready\n":
            self.stop()
            raise RunError("math-verify: its process did not start; `python -m arpo.rewards.maths` shows why")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._process = None

    def _read_line(self, seconds: float) -> bytes:
        """The next line; nothing when the time is over or the process has died."""
        assert self._process is not None
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return b""
            piece = os.read(output, 64)
            if not piece:
                return b""
            line += piece
        return line


def _serve() -> None:
    """The worker: a pair of formulas a line in, `true` or `false` a line out."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    def read(text: str) -> list[object]:
        text = text if text.startswith("$") else f"${text}$"
        return parse(text, extraction_config=[LatexExtractionConfig()], parsing_timeout=None)  # pyright: ignore[reportArgumentType]

    print("ready", flush=True)
    for line in sys.stdin:
        answer, reference = json.loads(line)
        try:
            equal = bool(verify(read(reference), read(answer), timeout_seconds=None))  # pyright: ignore[reportArgumentType]
        except Exception:  # whatever a formula does to the parser, it is then not equal
            equal = False
        print("true" if equal else "false", flush=True)


_worker = _Worker()
atexit.register(_worker.stop)

if __name__ == "__main__":
    _serve()
