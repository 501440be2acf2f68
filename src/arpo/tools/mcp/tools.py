"""The tools of MCP servers, usable from any event loop: each server has its own thread."""

import asyncio
import atexit
import hashlib
import json
import re
import threading
from collections.abc import Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from arpo.errors import ConfigError, ToolError
from arpo.tools.arguments import ArgumentChecker
from arpo.tools.base import StatelessTool, Tool
from arpo.tools.mcp.config import McpServerConfig
from arpo.tools.mcp.session import Session
from arpo.types import ToolResult

T = TypeVar("T")
_CLOSE_S = 15.0


class McpTool(StatelessTool):
    """One tool of a server. The server must keep no state between calls: trajectories and branches share it."""

    def __init__(
        self, server: "McpServer", name: str, remote_name: str, schema: Mapping[str, Any], *, is_cacheable: bool
    ) -> None:
        self.name = name
        self.schema = schema
        self.is_cacheable = is_cacheable
        self.version = "mcp-" + hashlib.sha256(f"{server.identity} {remote_name} {_json(schema)}".encode()).hexdigest()[:16]
        self._server = server
        self._remote_name = remote_name

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Send one call to the server."""
        return await self._server.call(self._remote_name, arguments)

    async def aclose(self) -> None:
        """Close the server, and with it its other tools."""
        await asyncio.to_thread(self._server.close)


class McpServer:
    """A connected server; `tools` holds the configured tools.

    The next call restarts or reconnects a server that died; the call that failed with it is transient. A server that no longer
    answers after a cancelled call is ended too.

    Raises:
        ToolError: the server cannot be started or reached in time, lacks a configured tool, or has a tool with an invalid
            schema or a name that no model could write.
    """

    def __init__(self, name: str, config: McpServerConfig) -> None:
        self.identity = f"{config.command} {' '.join(config.args)} {config.url}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"mcp-{name}", daemon=True)
        self._thread.start()
        self._session = Session(name, config)
        self._is_closed = False
        atexit.register(self.close)
        try:
            self.tools = self._choose(name, config)
        except BaseException:  # raised again, Ctrl-C too; the program must not stay
            self.close()
            raise

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The result of one call; cancelling it cancels the call."""
        if self._is_closed:
            return ToolResult(content=f"{tool}: the connection to its server was closed.", status="error")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._session.call(tool, arguments), self._loop))

    def close(self) -> None:
        """End the connection and the program, if any; calling it twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self.close)
        with suppress(TimeoutError):  # the program ignores every signal we may send
            self._wait(self._session.close(), _CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _choose(self, name: str, config: McpServerConfig) -> list[McpTool]:
        available = {tool.name: tool for tool in self._wait(self._session.list_tools(), None)}
        names = config.tools or {remote_name: remote_name for remote_name in available}
        missing = sorted(set(names) - set(available))
        if missing:
            raise ToolError(
                f"tools.mcp.{name}.tools: the server has no tool {missing[0]!r}; it has: "
                f"{', '.join(sorted(available)) or 'none'}"
            )
        tools: list[McpTool] = []
        for remote_name, local_name in names.items():
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", local_name):
                raise ToolError(
                    f"tools.mcp.{name}: a model cannot call a tool {local_name!r}; give it another name with "
                    f'tools.mcp.{name}.tools = {{{remote_name!r} = "..."}}'
                )
            tool = available[remote_name]
            ArgumentChecker(f"tools.mcp.{name}, its tool {remote_name!r}", tool.input_schema)
            schema = {"properties": {}, "required": [], **tool.input_schema, "description": tool.description or ""}
            tools.append(McpTool(self, local_name, remote_name, schema, is_cacheable=config.deterministic))
        return tools

    def _wait(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)


def connect_servers(servers: Mapping[str, McpServerConfig], taken: Collection[str] = ()) -> list[Tool]:
    """The tools of all servers; when one server fails, those already connected are closed.

    Args:
        servers: configurations by name.
        taken: names of the agent's other tools.

    Raises:
        ConfigError: a tool has the name of another.
        ToolError: as `McpServer`.
    """
    connected: list[McpServer] = []
    names = set(taken)
    try:
        for name, config in servers.items():
            connected.append(McpServer(name, config))
            for tool in connected[-1].tools:
                if tool.name in names:
                    raise ConfigError(f"tools.mcp.{name}: another tool is called {tool.name!r} too; rename one with `tools`")
                names.add(tool.name)
    except BaseException:  # raised again, Ctrl-C too; no connected server may stay
        for server in connected:
            server.close()
        raise
    return [tool for server in connected for tool in server.tools]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
