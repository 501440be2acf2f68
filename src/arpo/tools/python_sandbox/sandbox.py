"""The `python` tool."""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from arpo.errors import ToolError
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.host import SandboxHost
from arpo.tools.python_sandbox.results import to_result
from arpo.tools.python_sandbox.session import PythonSession
from arpo.tools.python_sandbox.zygote import ZygoteDiedError
from arpo.types import ToolResult

_WHERE = {"fresh": "in a fresh interpreter", "session": "with the variables of those before it"}


class PythonSandbox:
    """Runs each program in a confined interpreter; prints as a notebook cell does, the last expression's value included.

    A program's text is dedented and stripped. `random` starts from the same seed in each interpreter. A result's content is
    what was printed, then what went to standard error; of a program that failed, first the last line of its traceback and the
    rest of it. In mode `fresh` it has no state, so forks share it; in mode `session` a fork begins a trajectory of its own.

    Raises:
        ToolError: no isolation works on this machine; says what to install.
    """

    name = "python"
    is_local = True

    def __init__(self, config: PythonSandboxConfig) -> None:
        self._config = config
        self.schema: Mapping[str, Any] = {
            "type": "object",
            "description": f"Run a Python program {_WHERE[config.mode]}; gives what it prints and its last expression's value.",
            "properties": {"code": {"type": "string", "description": "The program."}},
            "required": ["code"],
            "additionalProperties": False,
        }
        self.version = _version(config)
        self.is_cacheable = config.mode == "fresh"
        self.host = SandboxHost(config)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run `arguments["code"]` by itself."""
        code = arguments.get("code")
        if not isinstance(code, str):
            return ToolResult(content="python: argument 'code' must be a string with the program", status="error")
        try:
            async with self.host.limit.get():
                outcome = await self.host.run(code)
        except ZygoteDiedError:
            return ToolResult(content="The Python sandbox broke down while it ran this program.", status="error")
        except ToolError as error:
            return ToolResult(content=str(error), status="error")
        return to_result(outcome, self._config)

    def fork(self) -> "PythonSandbox | PythonSession":
        """Itself in mode `fresh`; a new session in mode `session`."""
        return self if self._config.mode == "fresh" else PythonSession(self.host, self.schema, self.version)

    async def aclose(self) -> None:
        """End the zygote and every program."""
        self.host.close()


def _version(config: PythonSandboxConfig) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    settings = config.model_dump_json(exclude={"isolation", "concurrency", "live_sessions"})
    return hashlib.sha256(f"2 {python} {settings}".encode()).hexdigest()[:16]
