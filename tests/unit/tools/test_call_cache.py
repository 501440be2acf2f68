"""A run recorded once replays byte for byte without its tools; offline, only what needs no network runs."""

import asyncio
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import httpx2
import pytest

from arpo.cache import ANY_VERSION, Cache, CacheConfig, cache_key
from arpo.errors import ToolError
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor, ToolSession
from arpo.types import ToolCall, ToolResult


class Page(BaseHTTPRequestHandler):
    """Gives every request another answer; what is asked for as `bad` fails."""

    num_requests = 0
    lock = Lock()

    def do_GET(self) -> None:
        with self.lock:
            type(self).num_requests += 1
            number = self.num_requests
        self.send_response(500 if self.path == "/bad" else 200)
        self.end_headers()
        self.wfile.write(f"{self.path} answer {number}".encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Fetch:
    """A tool that needs the network."""

    schema: Mapping[str, Any] = {"type": "object", "properties": {}, "required": []}
    version = "1"

    def __init__(self, name: str, port: int, *, is_cacheable: bool) -> None:
        self.name, self.is_cacheable = name, is_cacheable
        self._address = f"http://127.0.0.1:{port}/"

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        async with httpx2.AsyncClient() as client:
            response = await client.get(self._address + arguments["page"])
        return ToolResult(content=response.text, status="success" if response.is_success else "error")

    def fork(self) -> "Fetch":
        return self

    async def aclose(self) -> None:
        pass


class Memory:
    """Remembers what it was told on its path; needs no network."""

    name, version, is_cacheable, is_local = "memory", "1", False, True
    schema: Mapping[str, Any] = {"type": "object", "properties": {}, "required": []}

    def __init__(self, told: tuple[str, ...] = ()) -> None:
        self.told = told

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        self.told += (arguments["page"],)
        return ToolResult(content=" ".join(self.told))

    def fork(self) -> "Memory":
        return Memory(self.told)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def server():
    Page.num_requests = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def open_executor(port: int, cache: Cache) -> ToolExecutor:
    tools = [Fetch("search", port, is_cacheable=True), Fetch("clock", port, is_cacheable=False), Memory()]
    return ToolExecutor({tool.name: tool for tool in tools}, ExecutorConfig(max_calls=99), lambda t, _: (t, False), cache)


async def tell(session: ToolSession, *calls: str) -> list[tuple[str, str]]:
    """Name and page of each call, e.g. `search x`; content and status of each result."""
    results = [await session.call(ToolCall(name=c.split()[0], arguments={"page": c.split()[1]})) for c in calls]
    return [(result.content, result.status) for result in results]


async def run(executor: ToolExecutor) -> list[list[tuple[str, str]]]:
    """Two trajectories at once; the first is branched."""
    first, second = executor.open_session(), executor.open_session()
    start = await asyncio.gather(
        tell(first, "search x", "clock now", "memory a", "search bad"), tell(second, "clock now", "clock now", "memory z")
    )
    branch = first.fork()
    ends = await asyncio.gather(
        tell(first, "search bad", "memory b", "search x"), tell(branch, "memory c", "clock now", "none x")
    )
    return [*start, *ends]


async def test_recorded_run_replays_byte_for_byte_without_the_network(server: ThreadingHTTPServer, tmp_path: Path):
    path, port = tmp_path / "cache", server.server_port
    recorded = await run(open_executor(port, Cache(path, "record")))
    num_requests = Page.num_requests
    server.shutdown()
    server.server_close()
    replay = open_executor(port, Cache(path, "replay"))
    assert await run(replay) == recorded
    assert (Page.num_requests, replay.counts.executed, replay.counts.cached) == (num_requests, 0, replay.counts.issued - 1)
    # What the run was like: equal call paths gave equal results, failures and the state of each path are there.
    first, second, original, branch = recorded
    assert first[1] != second[1] != second[0]
    assert [status for _, status in first] == ["success"] * 3 + ["error"]
    assert (original[1][0], branch[0][0]) == ("a b", "a c")
    assert first[0] == original[2]  # the cache's


async def test_call_that_was_not_recorded_ends_a_replay_with_an_error_that_names_it(
    server: ThreadingHTTPServer, tmp_path: Path
):
    path = tmp_path / "cache"
    await tell(open_executor(server.server_port, Cache(path, "record")).open_session(), "clock now", "memory a")
    session = open_executor(server.server_port, Cache(path, "replay")).open_session()
    await tell(session, "clock now")
    with pytest.raises(ToolError, match=r'no recording of the call memory \{"page":"b"\}'):
        await tell(session, "memory b")


async def test_a_normal_run_keeps_no_failure_and_records_nothing(server: ThreadingHTTPServer, tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    await run(open_executor(server.server_port, cache))
    assert {name: (s.entries, s.recorded) for name, s in cache.statistics().items()} == {"search": (1, 0)}


async def test_failures_of_a_recorded_run_are_not_found_by_others(server: ThreadingHTTPServer, tmp_path: Path):
    cache = Cache(tmp_path / "cache", "record")
    await run(open_executor(server.server_port, cache))
    assert [entry.key.arguments for entry in cache.entries()] == ['{"page":"x"}']


async def test_offline_local_tools_run_and_the_others_answer_from_the_cache_or_fail(
    server: ThreadingHTTPServer, tmp_path: Path
):
    path = tmp_path / "cache"
    Cache(path).put(cache_key("search", "1", {"page": "x"}), {"content": "kept", "truncated": False})
    cache = Cache.from_config(CacheConfig(path=path, mode="offline"))
    assert cache is not None
    results = await tell(
        open_executor(server.server_port, cache).open_session(), "search x", "memory a", "search y", "clock now"
    )
    assert results[:2] == [("kept", "success"), ("a", "success")]
    assert [status for _, status in results[2:]] == ["error"] * 2
    assert all("not in the cache, and this run is offline" in content for content, _ in results[2:])
    assert Page.num_requests == 0


async def test_offline_and_replayed_imported_results_answer_tools_that_keep_none(server: ThreadingHTTPServer, tmp_path: Path):
    path = tmp_path / "cache"
    Cache(path).put(cache_key("clock", ANY_VERSION, {"page": "now"}), {"content": "imported", "truncated": False})
    for mode in ("offline", "replay"):
        session = open_executor(server.server_port, Cache(path, mode)).open_session()
        assert await tell(session, "clock now") == [("imported", "success")]
    assert await tell(open_executor(server.server_port, Cache(path)).open_session(), "clock now") != [("imported", "success")]


async def test_two_processes_that_record_the_same_call_path_agree_on_one_result(server: ThreadingHTTPServer, tmp_path: Path):
    path = tmp_path / "cache"
    executors = [open_executor(server.server_port, Cache(path, "record")) for _ in range(2)]  # as two processes would
    results = await asyncio.gather(*(tell(executor.open_session(), "clock now") for executor in executors))
    assert results[0] == results[1]
