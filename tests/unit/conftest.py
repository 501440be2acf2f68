"""A real HTTP server on loopback whose manners a test decides."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

REASONS = {200: "OK"}


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class LocalServer:
    """Where it listens and what it received."""

    url: str
    port: int
    received: list[Received] = field(default_factory=list)


def reply(status: int = 200, body: Any = b"", **headers: str) -> Handler:
    """A handler that always answers the same; what is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'X')}", f"content-length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    raw = "\r\n".join([*lines, "", ""]).encode() + data

    async def handle(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return handle


def in_turn(*handlers: Handler) -> Handler:
    """A handler that answers the first request as the first one does, and so on; the last one stays."""
    waiting = list(handlers)

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request, writer)

    return handle


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ")
    return Received(method, target, headers, body)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[LocalServer]]]:
    """Starts a server with a handler; each connection carries one request."""
    servers: list[asyncio.Server] = []

    async def start(handler: Handler) -> LocalServer:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = await _read(reader)
                place.received.append(request)
                await handler(request, writer)
                await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        place = LocalServer(f"http://127.0.0.1:{port}", port)
        return place

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def replies() -> Any:
    """The two makers of handlers: `replies.reply` and `replies.in_turn`."""

    class Replies:
        reply = staticmethod(reply)
        in_turn = staticmethod(in_turn)

    return Replies


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes the waits of clients and executor immediate; holds how long they would have been."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        if seconds > 0:
            waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", record)
    monkeypatch.setattr("anyio.sleep", record)  # the official client's
    return waits
