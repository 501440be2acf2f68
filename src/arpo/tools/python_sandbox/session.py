"""The `python` tool of one trajectory whose programs share their variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from arpo.errors import ToolError
from arpo.tools.python_sandbox.host import SandboxHost
from arpo.tools.python_sandbox.results import to_result
from arpo.tools.python_sandbox.zygote import LiveProcess, Outcome, ZygoteDiedError
from arpo.types import ToolResult

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


class StateLostError(Exception):
    """The earlier programs did something else when they were run again."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A program that became part of the state, and what it showed."""

    code: str
    shown: tuple[object, ...]


class PythonSession:
    """Runs the programs of one trajectory as the cells of one notebook.

    Its state *is* the list of its programs; the process that holds their variables can be made again from it. So a branch is a
    copy of the list, made at once, and gets a process of its own when it first calls: the two never share a variable or a file.
    A program that was stopped at a limit, or that ended its process, is not part of the state: the next goes on from before it.
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
        code = arguments.get("code")
        if not isinstance(code, str):
            return ToolResult(content="python: argument 'code' must be a string with the program", status="error")
        try:
            async with self._host.limit.get():
                outcome = await self._execute(code)
        except ZygoteDiedError:
            return ToolResult(content="The Python sandbox broke down while it ran this program.", status="error")
        except StateLostError as error:
            self._history = ()
            return ToolResult(content=f"{error} The program did not run; no variable is left, start anew.", status="error")
        except ToolError as error:
            return ToolResult(content=str(error), status="error")
        result = to_result(outcome, self._host.config)
        if outcome.is_over:
            return replace(result, content=f"{result.content}\nThe variables are those from before this program.".strip())
        self._history = (*self._history, _Call(code, _shown(outcome)))
        return result

    def fork(self) -> "PythonSession":
        """A session that goes on from the same variables, on its own."""
        return PythonSession(self._host, self.schema, self.version, self._history)

    async def aclose(self) -> None:
        """End its process; the zygote stays for the others."""
        if (live := self._host.take(self)) is not None:
            live.close()

    async def _execute(self, code: str) -> Outcome:
        for is_last_try in (False, True):
            try:
                return await self._execute_once(code)
            except ZygoteDiedError:  # perhaps another's program ended it
                if is_last_try:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _execute_once(self, code: str) -> Outcome:
        kept = self._host.take(self)
        live = kept or self._host.open_session()
        try:
            if kept is None:
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
    """What a program that is run again has to show again; where objects lie in memory does not matter."""
    texts = (_ADDRESS.sub("0x", stream.text) for stream in (outcome.output, outcome.errors, outcome.report))
    return (outcome.exit_code, *texts)
