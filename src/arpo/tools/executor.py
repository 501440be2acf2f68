"""The environment of tools, and the one place where they are called: every limit, retries; no exception gets out."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace

from arpo.cache import Cache, CacheKey
from arpo.clients.concurrency import ConcurrencyLimit
from arpo.errors import ConfigError, ToolError
from arpo.tools.answers import Answers, call_key
from arpo.tools.base import Tool, TransientError, needs_question
from arpo.tools.config import ExecutorConfig
from arpo.tools.counts import UNKNOWN, ExecutorCounts, ToolCounts, tool_metrics
from arpo.types import Message, Observation, Step, Task, ToolCall, ToolResult, Turn


class ToolExecutor:
    """An `Environment` that answers the calls of a turn, for many trajectories at once, and ends at a turn without one.

    Args:
        tools: by name; closed by `aclose`.
        config: the limits.
        cut: `cut(text, max_tokens)` gives the text's first tokens and whether any were cut off, by the policy's tokenizer.
        cache: keeps successful results of cacheable tools; None keeps none.

    Raises:
        ConfigError: a limit names a tool that is not there.
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
        self.counts = ExecutorCounts()
        self._cut = cut
        self._answers = Answers(cache)
        self._limit = ConcurrencyLimit(config.max_concurrency)
        self._tool_limits = {name: ConcurrencyLimit(number) for name, number in config.max_concurrency_per_tool.items()}

    def open_session(self, question: str = "") -> "ToolSession":
        """A session for one initial trajectory, with fresh state of every tool that has state.

        `question` is the task's, for the tools that ask for it (`needs_question`).
        """
        tools = {name: tool.fork() for name, tool in self.tools.items()}
        return ToolSession(self, tools, num_calls={}, place="", question=question)

    async def open(self, task: Task, seed: int) -> "ToolSession":
        """As `Environment.open`: `open_session` with the task's question."""
        return self.open_session(task.question)

    @property
    def max_observations(self) -> int:
        """Most turns of one path whose results the policy can read.

        At most `max_calls` of them hold a call that is not refused. A turn of refused calls alone ends the path when the turn
        before was one too, so at most one follows each of the others. A refusal needs a used-up limit: it can follow the L-th
        call at the earliest, where L is the least limit, `max_calls` itself without limits per tool.

        Example: max_calls = 3 gives 4. With `search` limited to 1, search, search (refused), python, search (refused), python,
        search (refused) are read: 3 + (3 - 1 + 1) = 6.
        """
        max_calls = self.config.max_calls
        least_limit = min([max_calls, *self.config.max_calls_per_tool.values()])
        return max_calls + (max_calls - least_limit + 1)

    def drain_metrics(self) -> dict[str, float]:
        """As `Environment.drain_metrics`: see `counts.tool_metrics`."""
        counts, self.counts = self.counts, ExecutorCounts()
        return tool_metrics(counts)

    async def aclose(self) -> None:
        """Close the tools; the cache stays the caller's."""
        for tool in self.tools.values():
            await tool.aclose()

    async def execute(
        self, tools: Mapping[str, Tool], call: ToolCall, *, key: CacheKey | None, place: str, refusal: str | None
    ) -> ToolResult:
        """The result of one call of one of `tools`, counted, timed and cut to size.

        Args:
            tools: of the trajectory.
            call: what the policy wrote.
            key: of the call; None when its arguments are no JSON, or it names no tool.
            place: of the call on its path (`CacheKey.after`).
            refusal: what to say instead of calling; None calls.

        Raises:
            ToolError: the cache's mode is `replay` and the call was not recorded.
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
            result = await self._answer(tool, call, key, place)
            was_executed = not result.cached
        content, was_cut = self._cut(result.content, self.config.max_result_tokens)
        seconds = time.perf_counter() - started
        result = replace(result, content=content, truncated=result.truncated or was_cut, seconds=seconds)
        self._count(call.name if tool is not None else UNKNOWN, result, was_executed)
        return result

    async def _answer(self, tool: Tool, call: ToolCall, key: CacheKey | None, place: str) -> ToolResult:
        has_state = tool is not self.tools[tool.name]
        try:
            return await self._answers.answer(tool, key, place, lambda: self._run(tool, call), has_state=has_state)
        except ToolError:
            raise  # of a replay that is none
        except Exception as error:  # the cache's disk is full, say: the trajectory goes on, the count of errors shows it
            return ToolResult(content=f"{tool.name}: {type(error).__name__}: {error}", status="error")

    async def _run(self, tool: Tool, call: ToolCall) -> ToolResult:
        """Carry the call out, again while it fails in a way that may pass and a further try is within the time limit."""
        left = self.config.timeouts_s.get(tool.name, self.config.timeout_s)
        attempt = 0
        while True:
            outcome, seconds = await self._try_when_free(tool, call, left)
            if isinstance(outcome, ToolResult):
                return outcome
            wait = outcome.retry_after_s
            if wait is None:
                wait = self.config.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
            left -= seconds + wait
            if attempt == self.config.retries or left <= 0:
                return ToolResult(content=str(outcome), status="error")
            attempt += 1
            self._count_retry(tool.name)
            await asyncio.sleep(wait)

    async def _try_when_free(self, tool: Tool, call: ToolCall, limit_s: float) -> tuple[ToolResult | TransientError, float]:
        """What one try gave, and the seconds it took once it was free to begin."""
        own = self._tool_limits.get(tool.name)
        async with own.get() if own is not None else nullcontext(), self._limit.get():
            return await self._try(tool, call, limit_s)

    async def _try(self, tool: Tool, call: ToolCall, limit_s: float) -> tuple[ToolResult | TransientError, float]:
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
                raise  # the trajectory is stopped; a tool that cancels itself has only failed
            if limit.expired():
                seconds = self.config.timeouts_s.get(tool.name, self.config.timeout_s)
                outcome = ToolResult(content=f"{tool.name}: stopped after {seconds:g} s.", status="timeout")
            else:
                outcome = ToolResult(content=f"{tool.name}: {type(error).__name__}: {error}", status="error")
        return outcome, time.perf_counter() - started

    def _count(self, name: str, result: ToolResult, was_executed: bool) -> None:
        self.counts.add(result, was_executed=was_executed)
        self._counts_of(name).add(result, was_executed=was_executed)

    def _count_retry(self, name: str) -> None:
        self.counts.retries += 1
        self._counts_of(name).retries += 1

    def _counts_of(self, name: str) -> ToolCounts:
        return self.counts.per_tool.setdefault(name, ToolCounts())


class ToolSession:
    """The tools of one trajectory and how often its path called them; made by `ToolExecutor.open_session` and `fork`."""

    messages: tuple[Message, ...] = ()
    """Added to the prompt: nothing."""

    def __init__(
        self,
        executor: ToolExecutor,
        tools: Mapping[str, Tool],
        num_calls: Mapping[str, int],
        place: str,
        question: str,
        *,
        is_refused: bool = False,
    ) -> None:
        self._executor = executor
        self._tools = tools
        self._num_calls = dict(num_calls)
        self._place = place
        self._question = question
        self._is_refused = is_refused  # every call of the turn before was
        self._one_at_a_time = {name: asyncio.Lock() for name, tool in tools.items() if tool is not executor.tools[name]}

    @property
    def num_calls(self) -> int:
        """Calls made on this path, from the prompt on, refused ones not counted."""
        return sum(self._num_calls.values())

    async def step(self, turn: Turn) -> Step:
        """The results of the turn's calls, in order; done at a turn without one.

        Calls run at the same time, those of a tool with state one by one. Two turns in a row whose calls are all refused end
        the path: the second one's results are not shown.
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

        Over a limit of calls the status is `refused` and the text tells the model what it may still do; an unknown tool
        is an `error` that names the tools there are. Calls that are under way together run at the same time; those of a tool
        with state one after another, in the order in which they were begun. Raises only when cancelled, or where a replay has
        no recording of it.
        """
        tool = self._tools.get(call.name)
        if tool is not None and needs_question(tool) and self._question:
            call = replace(call, arguments={"question": self._question, **call.arguments})
        key = call_key(tool, call) if tool is not None else None
        refusal = self._refusal(call.name)
        if refusal is None:
            self._num_calls[call.name] = self._num_calls.get(call.name, 0) + 1
            if key is not None:
                self._place = key.after(self._place)
        place = self._place
        async with self._one_at_a_time.get(call.name, nullcontext()):
            return await self._executor.execute(self._tools, call, key=key, place=place, refusal=refusal)

    def fork(self) -> "ToolSession":
        """A session for a branch: the same counts and state, every tool forked.

        Raises:
            ToolError: a tool's state cannot be forked.
        """
        tools = {name: tool.fork() for name, tool in self._tools.items()}
        return ToolSession(
            self._executor, tools, self._num_calls, self._place, self._question, is_refused=self._is_refused
        )  # fmt: skip

    async def aclose(self) -> None:
        """Close what belongs to this session alone; tools without state stay open for the others."""
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
    """What a tool returned, if it kept to the contract.

    Raises:
        TypeError: it did not.
    """
    if not isinstance(result, ToolResult):
        raise TypeError(f"the tool returned {type(result).__name__}, not a ToolResult")
    if not isinstance(result.content, str):
        raise TypeError(f"the tool returned {type(result.content).__name__} as its result's content, not text")
    return result
