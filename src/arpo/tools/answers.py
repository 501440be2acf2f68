"""Where the answer to a tool call comes from: an identical call under way, the cache, a recording, or the tool itself."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from arpo.cache import Cache, CacheKey, cache_key
from arpo.clients.concurrency import SingleFlight
from arpo.errors import ToolError
from arpo.tools.base import Tool, is_local
from arpo.types import ToolCall, ToolResult

Run = Callable[[], Awaitable[ToolResult]]
"""Carries out the call in question."""


class Answers:
    """Answers calls by the cache's mode (see `CacheConfig`).

    Args:
        cache: None keeps nothing; identical calls under way are still carried out once.
    """

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self._flights: SingleFlight[ToolResult] = SingleFlight()

    async def answer(self, tool: Tool, key: CacheKey | None, place: str, run: Run, *, has_state: bool) -> ToolResult:
        """The result of one call.

        Args:
            tool: the called one.
            key: of the call; None when its arguments are no JSON: it is then simply run.
            place: of the call on its path, by which it is recorded.
            run: carries it out.
            has_state: True for a tool that remembers earlier calls.

        Raises:
            ToolError: in `replay`, a call that was not recorded.
        """
        mode = self._cache.mode if self._cache is not None else "normal"
        if mode == "replay":
            return self._replay(tool, key, place)
        if mode == "offline" and not is_local(tool):
            return self._recall(key) or _not_cached(tool)
        if mode == "record" and key is not None:
            return await self._recorded(tool, key, place, run, has_state=has_state)
        return await self._run_or_recall(tool, key, run)

    def _replay(self, tool: Tool, key: CacheKey | None, place: str) -> ToolResult:
        kept = self._at(place) or self._recall(key)
        if kept is None:
            assert self._cache is not None, "only a cache has a mode"
            asked = key.arguments if key is not None else "(arguments that are no JSON)"
            raise ToolError(
                f"cache.mode = replay: {self._cache.path} has no recording of the call {tool.name} {asked} after the calls "
                f"before it on its path. Replay with the configuration, seed and weights of the recorded run, or record it "
                f"anew (cache.mode = record)"
            )
        return kept

    async def _recorded(self, tool: Tool, key: CacheKey, place: str, run: Run, *, has_state: bool) -> ToolResult:
        """Run and record. Equal calls after equal calls get the first one's result, as they will in the replay."""
        if has_state:  # each path's tool has to see each call
            return self._record(place, key, await run())
        return await self._once(place, lambda: self._recorded_once(tool, key, place, run))

    async def _recorded_once(self, tool: Tool, key: CacheKey, place: str, run: Run) -> ToolResult:
        if (kept := self._at(place)) is not None:
            return kept
        return self._record(place, key, await self._run_or_recall(tool, key, run))

    async def _run_or_recall(self, tool: Tool, key: CacheKey | None, run: Run) -> ToolResult:
        if key is None or not tool.is_cacheable:
            return await run()
        if key.digest not in self._flights and (kept := self._recall(key)) is not None:
            return kept
        return await self._once(key.digest, lambda: self._run_and_keep(key, run))

    async def _run_and_keep(self, key: CacheKey, run: Run) -> ToolResult:
        result = await run()
        if self._cache is not None and self._cache.mode != "offline" and result.status == "success":
            self._cache.put(key, {"content": result.content, "truncated": result.truncated})
        return result

    async def _once(self, name: str, run: Run) -> ToolResult:
        """What `run` gives; who asks for the same name meanwhile gets the same result, marked as cached."""
        result, is_shared = await self._flights.run(name, run)
        return replace(result, cached=True) if is_shared else result

    def _recall(self, key: CacheKey | None) -> ToolResult | None:
        if self._cache is None or key is None:
            return None
        return _as_result(self._cache.get(key))

    def _at(self, place: str) -> ToolResult | None:
        return _as_result(self._cache.recorded(place)) if self._cache is not None else None

    def _record(self, place: str, key: CacheKey, result: ToolResult) -> ToolResult:
        """The result with what the first call at this place gave, which stays recorded."""
        assert self._cache is not None, "only a cache has a mode"
        value = {"content": result.content, "truncated": result.truncated, "status": result.status}
        return replace(result, **self._cache.record(place, key, value))


def call_key(tool: Tool, call: ToolCall) -> CacheKey | None:
    """The cache's key; None for arguments that are not JSON."""
    try:
        return cache_key(tool.name, tool.version, call.arguments)
    except TypeError:
        return None


def _as_result(kept: Any) -> ToolResult | None:
    return ToolResult(**kept, cached=True) if kept is not None else None


def _not_cached(tool: Tool) -> ToolResult:
    content = f"{tool.name}: the result of this call is not in the cache, and this run is offline."
    return ToolResult(content=content, status="error")
