"""The `python` tool."""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.host import SandboxHost
from arpo.tools.python_sandbox.results import to_result
from arpo.tools.python_sandbox.session import PythonSession
from arpo.types import ToolResult

_WHERE = {"fresh": "in a fresh interpreter", "session": "with the variables of those before it"}


class PythonSandbox:
    """Runs each program in a confined interpreter and prints as a notebook cell does, the last expression's value included.

    A program's text is dedented and stripped, of the lines of a Markdown code block too. `random` starts from the same seed in
    each interpreter. A result holds the output, then the standard error; a failed program's result begins with the last line
    of its traceback and the rest of it.
    In mode `fresh` the tool has no state, so forks share it; in mode `session` a fork begins a new session.

    Raises:
        ToolError: no isolation works on this machine; the message says what to install.
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
        """Run `arguments["code"]` in a fresh interpreter."""
        outcome = await self.host.call(arguments, self.host.run)
        return outcome if isinstance(outcome, ToolResult) else to_result(outcome, self._config)

    def fork(self) -> "PythonSandbox | PythonSession":
        """The tool itself in mode `fresh`; a new session in mode `session`."""
        return self if self._config.mode == "fresh" else PythonSession(self.host, self.schema, self.version)

    async def aclose(self) -> None:
        """End the zygote and every program."""
        self.host.close()


def _version(config: PythonSandboxConfig) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    settings = config.model_dump_json(exclude={"isolation", "concurrency", "live_sessions"})
    return hashlib.sha256(f"2 {python} {settings}".encode()).hexdigest()[:16]
