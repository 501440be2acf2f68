"""The `python` tool of one trajectory, whose programs share their variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from arpo.tools.python_sandbox.host import SandboxHost
from arpo.tools.python_sandbox.results import to_result
from arpo.tools.python_sandbox.zygote import LiveProcess, Outcome, ZygoteDiedError
from arpo.types import ToolResult

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


class StateLostError(Exception):
    """The earlier programs did something else when they ran again."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A program of the state, and its visible outcome."""

    code: str
    shown: tuple[object, ...]
    """Exit code, output, standard error and report, as `_shown` returns them."""


class PythonSession:
    """Runs the programs of one trajectory as the cells of one notebook.

    The state is the list of its programs, from which the process that holds their variables can be made again. So a fork copies
    the list at once, and gets a new process on its first call: two branches never share a variable or a file. A program that
    was stopped at a limit, or that ended its process, is not part of the state: the next one continues from before it.
    """

    name = "python"
    is_cacheable = False
    is_local = True

    def __init__(self, host: SandboxHost, schema: Mapping[str, Any], version: str, history: tuple[_Call, ...] = ()) -> None:
        self.schema = schema
        self.version = version
        self._host = host
        self._history = history

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run `arguments["code"]` after the programs before it."""
        try:
            outcome = await self._host.call(arguments, self._execute)
        except StateLostError as error:
            self._history = ()
            return ToolResult(content=f"{error} The program did not run; no variable is left, start anew.", status="error")
        if isinstance(outcome, ToolResult):
            return outcome
        result = to_result(outcome, self._host.config)
        if outcome.is_over:
            return replace(result, content=f"{result.content}\nThe variables are those from before this program.".strip())
        self._history = (*self._history, _Call(arguments["code"], _shown(outcome)))
        return result

    def fork(self) -> "PythonSession":
        """An independent session that continues from the same variables."""
        return PythonSession(self._host, self.schema, self.version, self._history)

    async def aclose(self) -> None:
        """End the session's process; the zygote stays for other sessions."""
        if (live := self._host.take(self)) is not None:
            live.close()

    async def _execute(self, code: str) -> Outcome:
        try:
            return await self._execute_once(code)
        except ZygoteDiedError:  # another session's program may have ended it
            return await self._execute_once(code)

    async def _execute_once(self, code: str) -> Outcome:
        live = self._host.take(self)
        is_new = live is None
        live = live or self._host.open_session()
        try:
            if is_new:
                await self._run_again(live)
            outcome = await live.run(code)
        except BaseException:
            live.close()
            raise
        if outcome.is_over:
            live.close()
        else:
            self._host.keep(self, live)
        return outcome

    async def _run_again(self, live: LiveProcess) -> None:
        for number, call in enumerate(self._history, start=1):
            outcome = await live.run(call.code)
            if outcome.is_over or _shown(outcome) != call.shown:
                raise StateLostError(f"The variables could not be made again: program {number} now does something else.")


def _shown(outcome: Outcome) -> tuple[object, ...]:
    """The visible outcome of a program, which a repeated run must equal; addresses of objects are masked."""
    texts = (_ADDRESS.sub("0x", stream.text) for stream in (outcome.output, outcome.errors, outcome.report))
    return (outcome.exit_code, *texts)
