"""Connections to MCP servers and their results; the only module that uses the official `mcp` package."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp import types as mcp_types
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED
from pydantic import ValidationError

from arpo.clients.http import LOOPBACK, require_environment, tls
from arpo.errors import ToolError
from arpo.tools.base import TransientError
from arpo.tools.mcp.config import McpServerConfig
from arpo.types import ToolResult

logging.getLogger("mcp").addHandler(logging.NullHandler())  # a server's mistake becomes a result, not a traceback


_MAX_PAGES = 100
_MAX_STDERR = 2000
_SHOWN_CHARS = 100
_PROBE_S = 5.0
_LAST_WORDS_S = 1.0
"""Seconds to wait for the last output of a server that has ended; its child may keep the pipe open."""


class Session:
    """One connection to a server, opened on first use and again after it was lost. It belongs to one event loop."""

    def __init__(self, name: str, config: McpServerConfig) -> None:
        if config.url is not None:
            require_environment()
        self._name = name
        self._config = config
        self._opening: asyncio.Task[Client] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stderr = ""
        self._waiting: set[asyncio.Future[str]] = set()

    async def list_tools(self) -> list[mcp_types.Tool]:
        """Every tool of the server.

        Raises:
            ToolError: the server cannot be reached or started, or does not send a list of tools.
        """
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                client = await self._client()
                return await _all_tools(client)
        except TimeoutError:
            await self.close()
            limit = f"connect_timeout_s = {self._config.connect_timeout_s:g} s"
            raise ToolError(f"{self._whereabouts}: no answer within {limit}{self._last_words}") from None
        except Exception as error:
            await self.close()
            raise ToolError(f"{self._whereabouts}: {explain(error)}{self._last_words}") from error

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The result of one call; a mistake of the server is an `error`.

        Raises:
            TransientError: the server is gone; the next call opens the connection again.
        """
        client = None
        try:
            client = await self._client()
            return read_result(await self._answer(client.call_tool(tool, dict(arguments))))
        except asyncio.CancelledError:
            if client is not None:
                self._doubt(client)
            raise
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                return ToolResult(content=f"{tool}: {error.message}", status="error")
            raise await self._lost(error) from error
        except (OSError, httpx2.HTTPError, ToolError, TimeoutError) as error:
            raise await self._lost(error) from error
        except Exception as error:  # a result that breaks its schema or the protocol
            return ToolResult(content=f"{tool}: the server does not keep its word: {explain(error)}", status="error")

    async def close(self) -> None:
        """End the connection and the program, if any; the next call opens it again."""
        keeper, self._keeper, self._opening = self._keeper, None, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _answer(self, call: Coroutine[Any, Any, mcp_types.CallToolResult]) -> mcp_types.CallToolResult:
        """The result of a call; ValueError once the server sends a reply that cannot be read, which may be that of any."""
        calling: asyncio.Future[Any] = asyncio.ensure_future(call)
        unreadable: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.add(unreadable)
        try:
            await asyncio.wait({calling, unreadable}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise ValueError(f"its reply cannot be read: {unreadable.result()}")
            return await calling
        finally:
            self._waiting.discard(unreadable)
            calling.cancel()  # without effect on a finished one

    async def _on_message(self, message: object) -> None:
        line = str(message.errors()[0]["input"]) if isinstance(message, ValidationError) else ""
        if '"result"' in line or '"error"' in line:  # a reply, not a line of a log
            for unreadable in self._waiting:
                if not unreadable.done():
                    unreadable.set_result(line[:_SHOWN_CHARS])

    async def _lost(self, error: Exception) -> TransientError:
        await self.close()
        return TransientError(f"The MCP server {self._name!r} is not there: {explain(error)}{self._last_words}")

    def _doubt(self, client: Client) -> None:
        """After a cancelled call: end the server if it no longer answers, so that the next call opens a new one."""

        async def probe() -> None:
            try:
                async with asyncio.timeout(_PROBE_S):
                    await client.list_tools(cache_mode="refresh")
            except Exception:  # any failure means that the server does not answer
                if self._opening is not None and self._opening.done() and self._opening.result() is client:
                    await self.close()

        task = asyncio.ensure_future(probe())
        _PROBES.add(task)
        task.add_done_callback(_PROBES.discard)

    async def _client(self) -> Client:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # there may be no waiter left
        try:
            return await asyncio.shield(self._opening)
        except Exception:  # raised again; the next call opens anew
            self._opening = None
            raise

    async def _open(self) -> Client:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        keeper = self._keeper = asyncio.ensure_future(self._keep(ready))
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                return await ready
        except BaseException:  # raised again, cancellation too; nobody would end the keeper
            keeper.cancel()
            raise

    async def _keep(self, ready: "asyncio.Future[Client]") -> None:
        """Hold the connection open until cancelled, in one task: the task that opens it must close it."""
        try:
            async with self._connect() as client:
                ready.set_result(client)
                await asyncio.Event().wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(error)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        config = self._config
        async with AsyncExitStack() as stack:
            if config.url is not None:
                http = await stack.enter_async_context(
                    httpx2.AsyncClient(
                        headers=self._headers(), timeout=httpx2.Timeout(30, read=None), verify=tls(), mounts=LOOPBACK
                    )
                )
                transport = streamable_http_client(config.url, http_client=http)
            else:
                reading, writing = os.pipe()
                reader = threading.Thread(target=self._read_stderr, args=(reading,), daemon=True)
                reader.start()
                stack.push_async_callback(asyncio.to_thread, reader.join, _LAST_WORDS_S)  # lets it read the last output
                errors = stack.enter_context(os.fdopen(writing, "w"))
                transport = stdio_client(self._program(), errlog=errors)
            yield await stack.enter_async_context(Client(transport, message_handler=self._on_message))

    def _program(self) -> StdioServerParameters:
        config = self._config
        env = dict(config.env)
        for name in config.env_names:
            env[name] = _read_environment(name, f"tools.mcp.{self._name}.env_names")
        return StdioServerParameters(
            command=config.command or "", args=list(config.args), env=env, cwd=config.cwd, encoding_error_handler="replace"
        )

    def _headers(self) -> dict[str, str]:
        name = self._config.token_env
        if name is None:
            return {}
        return {"Authorization": f"Bearer {_read_environment(name, f'tools.mcp.{self._name}.token_env')}"}

    def _read_stderr(self, descriptor: int) -> None:
        self._stderr = ""
        with open(descriptor, "rb", buffering=0) as stream:
            while chunk := stream.read(4096):
                self._stderr = (self._stderr + chunk.decode(errors="replace"))[-_MAX_STDERR:]

    @property
    def _whereabouts(self) -> str:
        return f"tools.mcp.{self._name} ({self._config.url or self._config.command})"

    @property
    def _last_words(self) -> str:
        lines = self._stderr.strip().splitlines()
        return f"; it last wrote: {lines[-1]}" if lines else ""


_PROBES: set["asyncio.Future[None]"] = set()


async def _all_tools(client: Client) -> list[mcp_types.Tool]:
    tools: list[mcp_types.Tool] = []
    cursor = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ToolError(f"its list of tools has more than {_MAX_PAGES} pages")


def read_result(result: mcp_types.CallToolResult) -> ToolResult:
    """The reply of a server as the text the model reads; other content is named by its kind and size."""
    parts = [_as_text(block) for block in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    return ToolResult(content="\n".join(parts), status="error" if result.is_error else "success")


def _as_text(block: mcp_types.ContentBlock) -> str:
    match block:
        case mcp_types.TextContent():
            return block.text
        case mcp_types.ImageContent() | mcp_types.AudioContent():
            return f"[{block.type}: {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
        case mcp_types.ResourceLink():
            return f"[resource: {block.uri}]"
        case mcp_types.EmbeddedResource():
            resource = block.resource
            return resource.text if isinstance(resource, mcp_types.TextResourceContents) else f"[resource: {resource.uri}]"


def explain(error: BaseException) -> str:
    """The message of an error, or of the first error of a group, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    words = str(error).split("For further information")[0]
    return " ".join(words.split())[:300] or type(error).__name__


def _read_environment(name: str, key: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ToolError(f"{key} = {name!r}: this environment variable is not set; set it to the key the server wants")
    return value
