"""The `python` tool."""

import hashlib
import signal
import sys
import weakref
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from arpo.errors import ToolError
from arpo.tools.places import Places
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.isolation import start_zygote
from arpo.tools.python_sandbox.zygote import Outcome, Zygote, ZygoteDiedError
from arpo.types import ToolResult


class PythonSandbox:
    """Runs each program in a fresh, confined interpreter; prints as a notebook cell does, the last expression's value included.

    A program's text is dedented and stripped. `random` starts from the same seed in each. A result's content is what was
    printed; of a program that failed, the last line of its traceback, the rest of it, then what was printed. Stateless, so
    forks share it.

    Raises:
        ToolError: no isolation works on this machine; says what to install.
    """

    name = "python"
    is_cacheable = True

    def __init__(self, config: PythonSandboxConfig) -> None:
        self._config = config
        self.schema: Mapping[str, Any] = {
            "type": "object",
            "description": "Run a Python program in a fresh interpreter; gives what it prints and its last expression's value.",
            "properties": {"code": {"type": "string", "description": "The program."}},
            "required": ["code"],
            "additionalProperties": False,
        }
        self.version = _version(config)
        self._zygote, self.isolation = start_zygote(config)
        self._finalizer = weakref.finalize(self, self._zygote.close)
        self._places = Places(config.concurrency)
        self._is_closed = False

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run `arguments["code"]`."""
        code = arguments.get("code")
        if not isinstance(code, str):
            return ToolResult(content="python: argument 'code' must be a string with the program", status="error")
        try:
            async with self._places.here():
                outcome = await self._execute(code)
        except ZygoteDiedError:
            return ToolResult(content="The Python sandbox broke down while it ran this program.", status="error")
        except ToolError as error:
            return ToolResult(content=str(error), status="error")
        return _result(outcome, self._config)

    def fork(self) -> "PythonSandbox":
        """Itself: it has no state."""
        return self

    async def aclose(self) -> None:
        """End the zygote and every program."""
        self._is_closed = True
        self._finalizer()

    async def _execute(self, code: str) -> Outcome:
        zygote = self._live_zygote()
        try:
            return await zygote.run(code)
        except ZygoteDiedError:
            zygote.close()
        # The program that ended the zygote is among those it ran: each runs once more, in a zygote of its own.
        alone, _ = start_zygote(self._config)
        with closing(alone):
            return await alone.run(code)

    def _live_zygote(self) -> Zygote:
        if self._is_closed:
            raise ToolError("Python sandbox: used after it was closed")
        if not self._zygote.is_alive:
            self._finalizer()
            self._zygote, self.isolation = start_zygote(self._config)
            self._finalizer = weakref.finalize(self, self._zygote.close)
        return self._zygote


def _version(config: PythonSandboxConfig) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    digest = hashlib.sha256(f"1 {python} {config.model_dump_json(exclude={'isolation', 'concurrency'})}".encode())
    return digest.hexdigest()[:16]


def _result(outcome: Outcome, config: PythonSandboxConfig) -> ToolResult:
    if outcome.exit_code == 0 and outcome.stopped is None:
        return ToolResult(content=outcome.output.rstrip("\n"), truncated=outcome.was_cut)
    content = _failure(outcome, config).strip()
    if outcome.output:
        content += f"\nPrinted before:\n{outcome.output}"
    status = "timeout" if outcome.stopped in ("wall", "cpu") else "error"
    return ToolResult(content=content, status=status, truncated=outcome.was_cut)


def _failure(outcome: Outcome, config: PythonSandboxConfig) -> str:
    match outcome.stopped:
        case "wall":
            return f"TimeoutError: the program was stopped after {config.wall_s:g} s"
        case "cpu":
            return f"TimeoutError: the program was stopped after {config.cpu_s} s of processor time"
        case "scratch":
            return f"OSError: the program's files exceeded {config.scratch_mb} MiB"
        case None:
            pass
    if outcome.jail_failed:
        return "The Python sandbox could not be set up, so the program did not run."
    if outcome.exit_code == 1 and outcome.report:
        return outcome.report
    if outcome.exit_code < 0:
        return f"The program was ended by {_signal_name(-outcome.exit_code)}.\n{outcome.report}"
    return f"The program ended with exit code {outcome.exit_code}.\n{outcome.report}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
