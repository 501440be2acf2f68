"""Answers tool calls from an identical call under way, the cache, a recording, or the tool."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from arpo.cache import Cache, CacheKey, cache_key
from arpo.clients.concurrency import SingleFlight
from arpo.errors import ToolError
from arpo.tools.base import Tool, is_local
from arpo.types import ToolCall, ToolResult

Run = Callable[[], Awaitable[ToolResult]]
"""Runs the tool for one call."""


class CallCache:
    """Answers calls according to the cache's mode (see `CacheConfig`).

    Args:
        cache: the cache; with None, identical calls under way still run once.
    """

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self._flights: SingleFlight[ToolResult] = SingleFlight()

    async def answer(self, tool: Tool, key: CacheKey | None, call_path: str, run: Run, *, has_state: bool) -> ToolResult:
        """The result of one call.

        Args:
            tool: the called tool.
            key: key of the call; None when its arguments are not JSON: the call then runs without the cache.
            call_path: call path of the call (`CacheKey.after`), under which it is recorded.
            run: runs the tool.
            has_state: True for a tool that remembers earlier calls.

        Raises:
            ToolError: in `replay`, a call without a recording.
        """
        cache = self._cache
        if cache is not None and cache.mode == "replay":
            return self._replay(cache, tool, key, call_path)
        if cache is not None and cache.mode == "offline" and not is_local(tool):
            return self._recall(key) or _not_cached(tool)
        if cache is None or cache.mode != "record" or key is None:
            return await self._run_or_recall(tool, key, run)
        if has_state:  # the tool of each path has to see each call
            return _record(cache, call_path, key, await run())
        return await self._once(call_path, lambda: self._record_once(cache, tool, key, call_path, run))

    def _replay(self, cache: Cache, tool: Tool, key: CacheKey | None, call_path: str) -> ToolResult:
        result = _as_result(cache.recorded(call_path)) or self._recall(key)
        if result is None:
            arguments = key.arguments if key is not None else "(arguments that are not JSON)"
            raise ToolError(
                f"cache.mode = replay: {cache.path} has no recording of the call {tool.name} {arguments} after the calls "
                f"before it on its path. Replay with the configuration, seed and weights of the recorded run, or record it "
                f"anew (cache.mode = record)"
            )
        return result

    async def _record_once(self, cache: Cache, tool: Tool, key: CacheKey, call_path: str, run: Run) -> ToolResult:
        """The recorded result of the call path, recorded now if it is missing: the replay returns the same."""
        recorded = _as_result(cache.recorded(call_path))
        return recorded or _record(cache, call_path, key, await self._run_or_recall(tool, key, run))

    async def _run_or_recall(self, tool: Tool, key: CacheKey | None, run: Run) -> ToolResult:
        if key is None or not tool.is_cacheable:
            return await run()
        if key.digest not in self._flights and (cached := self._recall(key)) is not None:
            return cached
        return await self._once(key.digest, lambda: self._run_and_cache(key, run))

    async def _run_and_cache(self, key: CacheKey, run: Run) -> ToolResult:
        result = await run()
        if self._cache is not None and self._cache.mode != "offline" and result.status == "success":
            self._cache.put(key, {"content": result.content, "truncated": result.truncated})
        return result

    async def _once(self, name: str, run: Run) -> ToolResult:
        """The result of `run`; calls of the same name under way share it, marked as cached."""
        result, is_shared = await self._flights.run(name, run)
        return replace(result, cached=True) if is_shared else result

    def _recall(self, key: CacheKey | None) -> ToolResult | None:
        return _as_result(self._cache.get(key)) if self._cache is not None and key is not None else None


def call_key(tool: Tool, call: ToolCall) -> CacheKey | None:
    """The cache's key of a call; None for arguments that are not JSON."""
    try:
        return cache_key(tool.name, tool.version, call.arguments)
    except TypeError:
        return None


def _record(cache: Cache, call_path: str, key: CacheKey, result: ToolResult) -> ToolResult:
    """Record a result; the result, with the content and status of the first one recorded for the call path."""
    value = {"content": result.content, "truncated": result.truncated, "status": result.status}
    return replace(result, **cache.record(call_path, key, value))


def _as_result(value: Any) -> ToolResult | None:
    return ToolResult(**value, cached=True) if value is not None else None


def _not_cached(tool: Tool) -> ToolResult:
    content = f"{tool.name}: the result of this call is not in the cache, and this run is offline."
    return ToolResult(content=content, status="error")
