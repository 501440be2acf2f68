"""The environment of tools and the only caller of tools: applies limits and retries, and turns exceptions into results."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace

from arpo.cache import Cache, CacheKey
from arpo.clients.concurrency import ConcurrencyLimit
from arpo.errors import ConfigError, ToolError
from arpo.ranks import Gather, alone
from arpo.tools.arguments import ArgumentChecker
from arpo.tools.base import Tool, TransientError, needs_question
from arpo.tools.call_cache import CallCache, call_key
from arpo.tools.config import ExecutorConfig
from arpo.tools.counts import UNKNOWN, ExecutorCounts, sum_counts, tool_metrics
from arpo.types import Message, Observation, Step, Task, ToolCall, ToolResult, Turn


class ToolExecutor:
    """An `Environment` that answers the calls of a turn and ends at a turn without calls; many trajectories share it.

    Args:
        tools: tools by name; `aclose` closes them.
        config: the limits.
        cut: `cut(text, max_tokens)` returns the text cut by the policy's tokenizer, and True when it had to be cut.
        cache: cache of the results; None: no cache.

    Raises:
        ConfigError: a limit names an unknown tool.
        ToolError: a tool's schema is not a JSON schema.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        config: ExecutorConfig,
        cut: Callable[[str, int], tuple[str, bool]],
        cache: Cache | None = None,
    ) -> None:
        for limit in ("timeouts_s", "max_calls_per_tool", "max_concurrency_per_tool"):
            _check_names(limit, getattr(config, limit), tools)
        self.tools = dict(tools)
        self.config = config
        self._checkers = {name: ArgumentChecker(f"tool {name!r}", tool.schema) for name, tool in tools.items()}
        self.counts = ExecutorCounts()
        self._cut = cut
        self._call_cache = CallCache(cache)
        self._limit = ConcurrencyLimit(config.max_concurrency)
        limits = {**dict.fromkeys(tools, config.max_concurrency), **config.max_concurrency_per_tool}
        self._tool_limits = {name: ConcurrencyLimit(limit) for name, limit in limits.items()}

    def open_session(self, question: str = "") -> "ToolSession":
        """A session for one initial trajectory, with fresh state of each tool that has state.

        `question` is the task's question, for tools that need it (`needs_question`).
        """
        tools = {name: tool.fork() for name, tool in self.tools.items()}
        return ToolSession(self, tools, num_calls={}, call_path="", question=question)

    async def open(self, task: Task, seed: int) -> "ToolSession":
        """As `Environment.open`: `open_session` with the task's question."""
        return self.open_session(task.question)

    @property
    def max_observations(self) -> int:
        """Most turns of one path whose results the policy can read.

        At most `max_calls` turns hold a call that is not refused. Two turns in a row with refused calls only end the path, so
        at most one such turn follows each other turn. A refusal needs a used-up limit: the first one follows the L-th call at
        the earliest, where L is the least limit (`max_calls` without limits per tool).

        Example: max_calls = 3 gives 4. With `search` limited to 1, search, search (refused), python, search (refused), python,
        search (refused) are read: 3 + (3 - 1 + 1) = 6.
        """
        max_calls = self.config.max_calls
        least_limit = min([max_calls, *self.config.max_calls_per_tool.values()])
        return max_calls + (max_calls - least_limit + 1)

    def drain_metrics(self, gather: Gather = alone) -> dict[str, float]:
        """As `Environment.drain_metrics`: see `counts.tool_metrics`."""
        counts, self.counts = gather(self.counts), ExecutorCounts()
        return tool_metrics(sum_counts(counts))

    async def aclose(self) -> None:
        """Close the tools; the caller closes the cache."""
        for tool in self.tools.values():
            await tool.aclose()

    def checked(self, call: ToolCall) -> ToolCall:
        """The call; with a fault when its arguments break the schema of its tool."""
        checker = None if call.fault else self._checkers.get(call.name)
        fault = checker.fault(call.arguments) if checker is not None else ""
        return replace(call, fault=f"{call.name}: {fault}") if fault else call

    async def execute(
        self, tools: Mapping[str, Tool], call: ToolCall, *, key: CacheKey | None, call_path: str, refusal: str | None
    ) -> ToolResult:
        """The result of one call, counted, timed and cut to size.

        Args:
            tools: tools of the trajectory.
            call: the policy's call.
            key: key of the call; None when its arguments are not JSON, or its tool is unknown.
            call_path: call path of the call (`CacheKey.after`).
            refusal: text of a refusal; None runs the call.

        Raises:
            ToolError: the cache's mode is `replay` and the call has no recording.
        """
        started = time.perf_counter()
        tool = tools.get(call.name)
        was_executed = False
        if refusal is not None:
            result = ToolResult(content=refusal, status="refused")
        elif call.fault:
            result = ToolResult(content=call.fault, status="error")
        elif tool is None:
            result = ToolResult(content=f"There is no tool {call.name!r}. The tools are: {', '.join(tools)}.", status="error")
        else:
            result = await self._answer(tool, call, key, call_path)
            was_executed = not result.cached
        content, was_cut = self._cut(result.content, self.config.max_result_tokens)
        seconds = time.perf_counter() - started
        result = replace(result, content=content, truncated=result.truncated or was_cut, seconds=seconds)
        for counts in self.counts.of_call(call.name if tool is not None else UNKNOWN):
            counts.add(result, was_executed=was_executed)
        return result

    async def _answer(self, tool: Tool, call: ToolCall, key: CacheKey | None, call_path: str) -> ToolResult:
        has_state = tool is not self.tools[tool.name]
        try:
            return await self._call_cache.answer(tool, key, call_path, lambda: self._run(tool, call), has_state=has_state)
        except ToolError:
            raise  # a replay without a recording
        except Exception as error:  # e.g. the cache's disk is full: the trajectory goes on, the count of errors shows it
            return ToolResult(content=f"{tool.name}: {type(error).__name__}: {error}", status="error")

    async def _run(self, tool: Tool, call: ToolCall) -> ToolResult:
        """Run the call; retry it after transient failures while retries and time are left."""
        left = self.config.timeouts_s.get(tool.name, self.config.timeout_s)
        attempt = 0
        while True:
            outcome, seconds = await self._try(tool, call, left)
            if isinstance(outcome, ToolResult):
                return outcome
            wait = outcome.retry_after_s
            if wait is None:
                wait = self.config.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
            left -= seconds + wait
            if attempt == self.config.retries or left <= 0:
                return ToolResult(content=str(outcome), status="error")
            attempt += 1
            for counts in self.counts.of_call(tool.name):
                counts.retries += 1
            await asyncio.sleep(wait)

    async def _try(self, tool: Tool, call: ToolCall, limit_s: float) -> tuple[ToolResult | TransientError, float]:
        """The outcome of one try, and its seconds without the wait for a free slot."""
        async with self._tool_limits[tool.name].get(), self._limit.get():
            started = time.perf_counter()
            limit = asyncio.timeout(limit_s)
            try:
                async with limit:
                    outcome: ToolResult | TransientError = _checked(await tool.run(call.arguments))
            except TransientError as error:
                outcome = error
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise  # the trajectory was cancelled; a tool that cancels itself has only failed
                if limit.expired():
                    seconds = self.config.timeouts_s.get(tool.name, self.config.timeout_s)
                    outcome = ToolResult(content=f"{tool.name}: stopped after {seconds:g} s.", status="timeout")
                else:
                    outcome = ToolResult(content=f"{tool.name}: {type(error).__name__}: {error}", status="error")
            return outcome, time.perf_counter() - started


class ToolSession:
    """The tools of one trajectory and the number of its calls; `ToolExecutor.open_session` and `fork` make it."""

    messages: tuple[Message, ...] = ()
    """Messages added to the prompt: none."""

    def __init__(
        self,
        executor: ToolExecutor,
        tools: Mapping[str, Tool],
        num_calls: Mapping[str, int],
        call_path: str,
        question: str,
        *,
        is_refused: bool = False,
    ) -> None:
        self._executor = executor
        self._tools = tools
        self._num_calls = dict(num_calls)
        self._call_path = call_path
        self._question = question
        self._is_refused = is_refused  # True when every call of the previous turn was refused
        self._one_at_a_time = {name: asyncio.Lock() for name, tool in tools.items() if tool is not executor.tools[name]}

    @property
    def num_calls(self) -> int:
        """Calls on this path from the prompt on, without refused ones."""
        return sum(self._num_calls.values())

    async def step(self, turn: Turn) -> Step:
        """The results of the turn's calls, in order; done at a turn without calls.

        Calls run at the same time, those of a tool with state one by one. Two turns in a row whose calls are all refused end
        the path, without the second turn's results.
        """
        calls = turn.parse.calls
        if not calls:
            return Step(is_done=True)
        results = [await self.call(calls[0])] if len(calls) == 1 else await asyncio.gather(*map(self.call, calls))
        was_refused, self._is_refused = self._is_refused, all(result.status == "refused" for result in results)
        if was_refused and self._is_refused:
            return Step()
        return Step(observations=tuple(Observation(content=result.content, result=result) for result in results))

    async def call(self, call: ToolCall) -> ToolResult:
        """The result of one call.

        Beyond a limit of calls the status is `refused` and the text tells the model what it may still do; an unknown tool
        is an `error` that names the known tools, and so are arguments that break the tool's schema. Calls run at the same
        time; those of a tool with state run one after another, in the order they began.

        Raises:
            ToolError: a replay has no recording of the call.
        """
        tool, call = self._tools.get(call.name), self._executor.checked(call)
        if tool is not None and needs_question(tool) and self._question:
            call = replace(call, arguments={"question": self._question, **call.arguments})
        key = call_key(tool, call) if tool is not None else None
        refusal = self._refusal(call.name)
        if refusal is None:
            self._num_calls[call.name] = self._num_calls.get(call.name, 0) + 1
            if key is not None:
                self._call_path = key.after(self._call_path)
        call_path = self._call_path
        async with self._one_at_a_time.get(call.name, nullcontext()):
            return await self._executor.execute(self._tools, call, key=key, call_path=call_path, refusal=refusal)

    def fork(self) -> "ToolSession":
        """A session for a branch, with the same counts and state, and a fork of every tool.

        Raises:
            ToolError: a tool's state cannot be forked.
        """
        tools = {name: tool.fork() for name, tool in self._tools.items()}
        return ToolSession(self._executor, tools, self._num_calls, self._call_path, self._question, is_refused=self._is_refused)

    async def aclose(self) -> None:
        """Close the session's forks of tools with state; shared tools stay open."""
        for name, tool in self._tools.items():
            if tool is not self._executor.tools[name]:
                await tool.aclose()

    def _refusal(self, name: str) -> str | None:
        limits = self._executor.config
        if self.num_calls >= limits.max_calls:
            used_up = f"Refused: all {limits.max_calls} tool calls are used up."
            return f"{used_up} No further call is possible; you may still give your answer."
        limit = limits.max_calls_per_tool.get(name)
        if limit is not None and self._num_calls.get(name, 0) >= limit:
            return f"Refused: all {limit} calls of {name} are used up. You may still use other tools or give your answer."
        return None


def _check_names(limit: str, names: Iterable[str], tools: Mapping[str, Tool]) -> None:
    unknown = sorted(set(names) - set(tools))
    if unknown:
        raise ConfigError(
            f"tools.executor.{limit}: there is no tool {unknown[0]!r}; the tools are: {', '.join(tools) or 'none'}"
        )


def _checked(result: object) -> ToolResult:
    """The result of a tool.

    Raises:
        TypeError: it is not a ToolResult with text.
    """
    if not isinstance(result, ToolResult):
        raise TypeError(f"the tool returned {type(result).__name__}, not a ToolResult")
    if not isinstance(result.content, str):
        raise TypeError(f"the tool returned {type(result.content).__name__} as its result's content, not text")
    return result
