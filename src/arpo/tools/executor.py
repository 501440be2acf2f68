"""The one place where a tool is called: limits on calls, time, concurrency and size; cache; and no exception gets out."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from arpo.cache import Cache, cache_key
from arpo.errors import ConfigError
from arpo.tools.base import Tool
from arpo.tools.config import ExecutorConfig
from arpo.tools.places import Places
from arpo.types import ToolCall, ToolResult

_UNKNOWN = "(unknown)"


@dataclass(slots=True)
class ToolCounts:
    """What became of the calls of one tool, or of all."""

    issued: int = 0
    """Calls the policy made, refused ones included: executed + cached + refused + those of unknown tools."""
    executed: int = 0
    """Calls carried out."""
    cached: int = 0
    """Calls answered by the cache or by an identical call already under way."""
    errors: int = 0
    """Results with status `error`, of unknown tools too."""
    timeouts: int = 0
    """Results with status `timeout`."""
    refused: int = 0
    """Calls over the trajectory's limit."""
    truncated: int = 0
    """Results that were cut, by the tool or to `max_result_tokens`."""
    seconds: float = 0.0
    """Wall time of all calls, waiting included."""

    def add(self, result: ToolResult, *, was_executed: bool) -> None:
        """Count one call."""
        self.issued += 1
        self.executed += was_executed
        self.cached += result.cached
        self.errors += result.status == "error"
        self.timeouts += result.status == "timeout"
        self.refused += result.status == "refused"
        self.truncated += result.truncated
        self.seconds += result.seconds


@dataclass(slots=True)
class ExecutorCounts(ToolCounts):
    """What became of all calls, and of each tool's."""

    per_tool: dict[str, ToolCounts] = field(default_factory=dict)
    """By tool name; calls of tools that do not exist are under `(unknown)`."""


@dataclass(slots=True)
class _Flight:
    """One execution that identical calls wait for."""

    task: "asyncio.Task[ToolResult]"
    waiters: int = 0


class ToolExecutor:
    """Calls tools for many trajectories at once.

    Args:
        tools: by name; closed by `aclose`.
        config: the limits.
        cut: `cut(text, max_tokens)` gives the text's first tokens and whether any were cut off, by the policy's tokenizer.
        cache: keeps successful results of cacheable tools; None keeps none.

    Raises:
        ConfigError: `timeouts_s` names a tool that is not there.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        config: ExecutorConfig,
        cut: Callable[[str, int], tuple[str, bool]],
        cache: Cache | None = None,
    ) -> None:
        unknown = sorted(set(config.timeouts_s) - set(tools))
        if unknown:
            raise ConfigError(
                f"tools.executor.timeouts_s: there is no tool {unknown[0]!r}; the tools are: {', '.join(tools) or 'none'}"
            )
        self.tools = dict(tools)
        self.config = config
        self.counts = ExecutorCounts()
        self._cut = cut
        self._cache = cache
        self._places = Places(config.max_concurrency)
        self._flights: dict[str, _Flight] = {}

    def open_session(self) -> "ToolSession":
        """A session for one initial trajectory, with fresh state of every tool that has state."""
        return ToolSession(self, {name: tool.fork() for name, tool in self.tools.items()}, num_calls=0)

    def take_counts(self) -> ExecutorCounts:
        """What was counted since the last time; counting starts again at zero."""
        counts, self.counts = self.counts, ExecutorCounts()
        return counts

    async def aclose(self) -> None:
        """Close the tools; the cache stays the caller's."""
        for tool in self.tools.values():
            await tool.aclose()

    async def execute(self, tools: Mapping[str, Tool], call: ToolCall, *, is_over_limit: bool) -> ToolResult:
        """The result of one call of one of `tools`, counted, timed and cut to size."""
        started = time.perf_counter()
        tool = tools.get(call.name)
        was_executed = False
        if is_over_limit:
            result = _refusal(self.config.max_calls)
        elif tool is None:
            result = ToolResult(content=f"There is no tool {call.name!r}. The tools are: {', '.join(tools)}.", status="error")
        else:
            try:
                result = await self._run_or_recall(tool, call)
            except Exception as error:  # the cache's disk is full, say: the trajectory goes on, the count of errors shows it
                result = ToolResult(content=f"{tool.name}: {type(error).__name__}: {error}", status="error")
            was_executed = not result.cached
        content, was_cut = self._cut(result.content, self.config.max_result_tokens)
        seconds = time.perf_counter() - started
        result = replace(result, content=content, truncated=result.truncated or was_cut, seconds=seconds)
        self._count(call.name if tool is not None else _UNKNOWN, result, was_executed)
        return result

    async def _run_or_recall(self, tool: Tool, call: ToolCall) -> ToolResult:
        key = _key(tool, call) if tool.is_cacheable else None
        if key is None:
            return await self._run(tool, call)
        if (flight := self._flights.get(key)) is not None:
            return replace(await self._join(key, flight), cached=True)
        if (kept := self._recall(key)) is not None:
            return kept
        flight = self._flights[key] = _Flight(asyncio.create_task(self._run_and_keep(tool, call, key)))
        return await self._join(key, flight)

    async def _join(self, key: str, flight: _Flight) -> ToolResult:
        """Wait for an execution others may wait for too; the last to give up cancels it."""
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and self._flights.get(key) is flight:
                del self._flights[key]
                flight.task.cancel()  # without effect on a finished one

    def _recall(self, key: str) -> ToolResult | None:
        kept = self._cache.get(key) if self._cache is not None else None
        return ToolResult(content=kept["content"], truncated=kept["truncated"], cached=True) if kept is not None else None

    async def _run_and_keep(self, tool: Tool, call: ToolCall, key: str) -> ToolResult:
        result = await self._run(tool, call)
        if self._cache is not None and result.status == "success":
            self._cache.put(key, {"content": result.content, "truncated": result.truncated})
        return result

    async def _run(self, tool: Tool, call: ToolCall) -> ToolResult:
        async with self._places.here():
            seconds = self.config.timeouts_s.get(tool.name, self.config.timeout_s)
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    return _checked(await tool.run(call.arguments))
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise  # the trajectory is stopped; a tool that cancels itself has only failed
                if limit.expired():
                    return ToolResult(content=f"{tool.name}: stopped after {seconds:g} s.", status="timeout")
                return ToolResult(content=f"{tool.name}: {type(error).__name__}: {error}", status="error")

    def _count(self, name: str, result: ToolResult, was_executed: bool) -> None:
        self.counts.add(result, was_executed=was_executed)
        self.counts.per_tool.setdefault(name, ToolCounts()).add(result, was_executed=was_executed)


class ToolSession:
    """The tools of one trajectory and how often its path called them; made by `ToolExecutor.open_session` and `fork`."""

    def __init__(self, executor: ToolExecutor, tools: Mapping[str, Tool], num_calls: int) -> None:
        self._executor = executor
        self._tools = tools
        self.num_calls = num_calls
        """Calls made on this path, from the prompt on, refused ones not counted."""

    async def call(self, call: ToolCall) -> ToolResult:
        """The result of one call. Never raises but when cancelled.

        Over the limit of calls the status is `refused` and the text tells the model that it may still answer; an unknown tool
        is an `error` that names the tools there are.
        """
        is_over_limit = self.num_calls >= self._executor.config.max_calls
        self.num_calls += not is_over_limit
        return await self._executor.execute(self._tools, call, is_over_limit=is_over_limit)

    def fork(self) -> "ToolSession":
        """A session for a branch: the same count, every tool forked.

        Raises:
            ToolError: a tool's state cannot be forked.
        """
        return ToolSession(self._executor, {name: tool.fork() for name, tool in self._tools.items()}, self.num_calls)

    async def aclose(self) -> None:
        """Close what belongs to this session alone; tools without state stay open for the others."""
        for name, tool in self._tools.items():
            if tool is not self._executor.tools[name]:
                await tool.aclose()


def _refusal(max_calls: int) -> ToolResult:
    text = f"Refused: all {max_calls} tool calls are used up. No further call is possible; you may still give your answer."
    return ToolResult(content=text, status="refused")


def _checked(result: object) -> ToolResult:
    """What a tool returned, if it kept to the contract.

    Raises:
        TypeError: it did not.
    """
    if not isinstance(result, ToolResult):
        raise TypeError(f"the tool returned {type(result).__name__}, not a ToolResult")
    if not isinstance(result.content, str):
        raise TypeError(f"the tool returned {type(result.content).__name__} as its result's content, not text")
    return result


def _key(tool: Tool, call: ToolCall) -> str | None:
    """The cache's key; None for arguments that are not JSON, which are then simply run."""
    try:
        return cache_key(tool.name, tool.version, call.arguments)
    except TypeError:
        return None
