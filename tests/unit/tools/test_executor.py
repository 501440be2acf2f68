"""The executor: every limit holds, every failure is a result, identical calls run once, and the counts add up."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from arpo.cache import Cache
from arpo.errors import ConfigError, ToolError
from arpo.rollout.environment import Environment
from arpo.tools.base import Tool, TransientError
from arpo.tools.config import ExecutorConfig
from arpo.tools.counts import ExecutorCounts, ToolCounts, tool_metrics
from arpo.tools.executor import ToolExecutor
from arpo.tracking.metrics import check_names
from arpo.types import Message, Parse, Step, Task, ToolCall, ToolResult, Turn


def cut(text: str, max_tokens: int) -> tuple[str, bool]:
    """A tokenizer whose tokens are words."""
    words = text.split(" ")
    return " ".join(words[:max_tokens]), len(words) > max_tokens


class Echo:
    """Says what it is told, after `delay` seconds; counts its runs."""

    schema: Mapping[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    version = "1"

    def __init__(self, name: str = "echo", is_cacheable: bool = False, delay: float = 0.0, error: Exception | None = None):
        self.name, self.is_cacheable, self.delay, self.error = name, is_cacheable, delay, error
        self.num_runs = self.num_running = self.peak = 0
        self.is_closed = False

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        self.num_runs += 1
        self.num_running += 1
        self.peak = max(self.peak, self.num_running)
        try:
            await asyncio.sleep(self.delay)
            if self.error is not None:
                raise self.error
            return ToolResult(content=arguments["text"], status="error" if arguments["text"] == "fail" else "success")
        finally:
            self.num_running -= 1

    def fork(self) -> "Echo":
        return self

    async def aclose(self) -> None:
        self.is_closed = True


class Counter(Echo):
    """Has state: a copy goes its own way."""

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        self.num_runs += 1
        return ToolResult(content=str(self.num_runs))

    def fork(self) -> "Counter":
        copy = Counter(self.name)
        copy.num_runs = self.num_runs
        return copy


class Unforkable(Echo):
    def fork(self) -> "Echo":
        if self.num_runs:
            raise ToolError("echo: its state cannot be copied")
        return self


def executor(*tools: Tool, cache: Cache | None = None, **limits: Any) -> ToolExecutor:
    return ToolExecutor({tool.name: tool for tool in tools}, ExecutorConfig(**limits), cut, cache)


def say(text: str, name: str = "echo") -> ToolCall:
    return ToolCall(name=name, arguments={"text": text})


async def test_call_over_the_limit_is_refused_and_says_that_an_answer_is_still_possible():
    tool = Echo()
    tools = executor(tool, max_calls=2)
    session = tools.open_session()
    results = [await session.call(say(t)) for t in "abc"]
    assert [r.status for r in results] == ["success", "success", "refused"]
    assert "2 tool calls" in results[2].content
    assert "answer" in results[2].content
    assert (tool.num_runs, session.num_calls) == (2, 2)
    assert (tools.counts.issued, tools.counts.executed, tools.counts.refused) == (3, 2, 1)


async def test_branch_counts_the_calls_of_the_path_it_shares():
    tools = executor(Echo(), max_calls=3)
    session = tools.open_session()
    await session.call(say("a"))
    await session.call(say("b"))
    branch = session.fork()
    assert (await branch.call(say("c"))).status == "success"
    assert (await branch.call(say("d"))).status == "refused"
    assert session.num_calls == 2
    assert (await session.call(say("e"))).status == "success"
    assert tools.open_session().num_calls == 0


def turn(*calls: ToolCall) -> Turn:
    parse = Parse(calls=calls) if calls else Parse(answer="a")
    return Turn(text="", parse=parse, index=0)


async def test_a_session_answers_the_calls_of_a_turn_and_is_done_at_one_without():
    task = Task(id="t", messages=(Message(role="user", content="q"),), references=(), source="test")
    environment: Environment = executor(Echo())
    session = await environment.open(task, seed=3)
    step = await session.step(turn(say("a"), say("fail")))
    assert [(o.role, o.content, o.result and o.result.status) for o in step.observations] == [
        ("tool", "a", "success"),
        ("tool", "fail", "error"),
    ]
    assert (session.messages, step.is_done, step.reward, step.metrics) == ((), False, None, {})
    assert await session.step(turn()) == Step(is_done=True)


async def test_a_second_turn_in_a_row_of_refused_calls_alone_ends_the_path():
    tools = executor(Echo("search"), Echo("python"), max_calls=4, max_calls_per_tool={"search": 1})
    first = tools.open_session()
    await first.step(turn(say("a", "search")))
    assert [o.content[:7] for o in (await first.step(turn(say("b", "search")))).observations] == ["Refused"]
    branch = first.fork()
    assert await first.step(turn(say("c", "search"), say("d", "search"))) == Step(), "nothing to read, and not done"
    mixed = await branch.step(turn(say("c", "search"), say("d", "python")))
    assert [o.result and o.result.status for o in mixed.observations] == ["refused", "success"]
    assert len((await branch.step(turn(say("e", "search")))).observations) == 1, "counted anew"
    assert await branch.fork().step(turn(say("f", "search"))) == Step(), "a fork knows what was refused"


async def test_unknown_tool_is_an_error_that_names_the_tools_there_are():
    tools = executor(Echo("search"), Echo("python"))
    result = await tools.open_session().call(say("x", name="browser"))
    assert result.status == "error"
    assert "'browser'" in result.content
    assert "search, python" in result.content
    assert (tools.counts.issued, tools.counts.executed, tools.counts.errors) == (1, 0, 1)
    assert list(tools.counts.per_tool) == ["(unknown)"]


@pytest.mark.parametrize("error", [ValueError("bad"), TimeoutError("its own"), MemoryError("none left")])
async def test_exception_of_a_tool_becomes_an_error_result(error: Exception):
    tools = executor(Echo(error=error))
    result = await tools.open_session().call(say("x"))
    assert result.status == "error"
    assert f"{type(error).__name__}: {error}" in result.content


async def test_slow_tool_is_stopped_and_counted():
    tool = Echo(delay=30)
    tools = executor(tool, timeout_s=0.05)
    result = await tools.open_session().call(say("x"))
    assert result.status == "timeout"
    assert "0.05 s" in result.content
    assert tool.num_running == 0
    assert (tools.counts.timeouts, tools.counts.errors) == (1, 0)


async def test_a_tool_may_have_its_own_time_limit():
    tools = executor(Echo(delay=30), Echo("patient", delay=0.1), timeout_s=30, timeouts_s={"echo": 0.05})
    session = tools.open_session()
    assert (await session.call(say("x"))).content == "echo: stopped after 0.05 s."
    assert (await session.call(say("x", "patient"))).status == "success"


def test_a_time_limit_for_a_tool_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match=r"timeouts_s: there is no tool 'pyhton'; the tools are: echo"):
        executor(Echo(), timeouts_s={"pyhton": 1.0})


def test_a_time_limit_of_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"timeouts_s\.echo\n.*greater than 0"):
        executor(Echo(), timeouts_s={"echo": 0})


async def test_no_more_calls_at_once_than_configured():
    tool = Echo(delay=0.01)
    tools = executor(tool, max_concurrency=3)
    await asyncio.gather(*(tools.open_session().call(say(str(i))) for i in range(10)))
    assert (tool.peak, tool.num_runs) == (3, 10)


async def test_waiting_for_a_slot_is_not_counted_against_the_time_limit():
    # One slot, five calls of 0.06 s: the last waits 0.24 s, longer than the limit of 0.2 s, and still succeeds.
    tools = executor(Echo(delay=0.06), max_concurrency=1, timeout_s=0.2)
    results = await asyncio.gather(*(tools.open_session().call(say(str(i))) for i in range(5)))
    assert {r.status for r in results} == {"success"}


async def test_long_result_is_cut_in_tokens_and_marked():
    tools = executor(Echo(), max_result_tokens=3)
    session = tools.open_session()
    short, long = await session.call(say("a b c")), await session.call(say("a b c d"))
    assert (short.content, short.truncated) == ("a b c", False)
    assert (long.content, long.truncated) == ("a b c", True)
    assert tools.counts.truncated == 1


async def test_cache_answers_the_second_call_and_keeps_the_uncut_text(tmp_path: Path):
    tool, cache = Echo(is_cacheable=True), Cache(tmp_path / "c.sqlite")
    first = await executor(tool, cache=cache, max_result_tokens=1).open_session().call(say("a b"))
    tools = executor(tool, cache=cache)
    second = await tools.open_session().call(say("a b"))
    assert (first.content, first.cached, first.truncated) == ("a", False, True)
    assert (second.content, second.cached, second.truncated) == ("a b", True, False)
    assert tool.num_runs == 1
    assert (tools.counts.issued, tools.counts.executed, tools.counts.cached) == (1, 0, 1)


async def test_new_version_of_a_tool_does_not_read_the_old_one_s_results(tmp_path: Path):
    cache = Cache(tmp_path / "c.sqlite")
    old, new = Echo(is_cacheable=True), Echo(is_cacheable=True)
    new.version = "2"
    for tool in (old, new):
        await executor(tool, cache=cache).open_session().call(say("a"))
    assert (old.num_runs, new.num_runs) == (1, 1)


@pytest.mark.parametrize(
    "tool", [Echo(is_cacheable=True, error=ValueError("x")), Echo(is_cacheable=True), Echo(is_cacheable=False)]
)
async def test_failures_and_tools_with_state_are_not_kept(tool: Echo, tmp_path: Path):
    tools = executor(tool, cache=Cache(tmp_path / "c.sqlite"))
    text = "fail" if tool.is_cacheable else "fine"
    for _ in range(2):
        assert not (await tools.open_session().call(say(text))).cached
    assert tool.num_runs == 2


async def test_identical_calls_under_way_run_once():
    tool = Echo(is_cacheable=True, delay=0.02)
    tools = executor(tool)
    results = await asyncio.gather(*(tools.open_session().call(say("a")) for _ in range(5)))
    assert {r.content for r in results} == {"a"}
    assert tool.num_runs == 1
    assert sorted(r.cached for r in results) == [False, True, True, True, True]
    assert (tools.counts.issued, tools.counts.executed, tools.counts.cached) == (5, 1, 4)


async def test_cancelling_the_first_of_identical_calls_leaves_the_others_their_result():
    tool = Echo(is_cacheable=True, delay=0.05)
    tools = executor(tool)
    first, second = (asyncio.create_task(tools.open_session().call(say("a"))) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).content == "a"
    assert (first.cancelled(), tool.num_runs) == (True, 1)


async def test_cancelling_all_identical_calls_stops_the_tool_and_a_later_one_starts_anew():
    tool = Echo(is_cacheable=True, delay=5)
    tools = executor(tool)
    calls = [asyncio.create_task(tools.open_session().call(say("a"))) for _ in range(2)]
    await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert tool.num_running == 0
    tool.delay = 0
    assert (await tools.open_session().call(say("a"))).content == "a"


async def test_branch_has_its_own_copy_of_a_tool_s_state():
    tools = executor(Counter())
    session = tools.open_session()
    await session.call(say("x"))
    branch = session.fork()
    contents = [(await s.call(say("x"))).content for s in (branch, branch, session)]
    assert contents == ["2", "3", "2"]


class Notes(Echo):
    """Has state: the texts it was told, each written down only after as many ms as its own length asks for."""

    def __init__(self) -> None:
        super().__init__("notes")
        self.texts: list[str] = []

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        await asyncio.sleep(0.02 / len(arguments["text"]))
        self.texts.append(arguments["text"])
        return ToolResult(content=" ".join(self.texts))

    def fork(self) -> "Notes":
        copy = Notes()
        copy.texts = list(self.texts)
        return copy


async def test_calls_of_one_turn_to_a_tool_with_state_run_in_the_order_written_and_those_of_others_meanwhile():
    # At the same time, "ccc" would be done first, then "bb", then "a".
    session = executor(Notes(), Echo(delay=0.0)).open_session()
    ended: list[str] = []

    async def call(text: str, name: str) -> str:
        result = await session.call(say(text, name))
        ended.append(text)
        return result.content

    calls = (("a", "notes"), ("bb", "notes"), ("x", "echo"), ("ccc", "notes"))
    assert await asyncio.gather(*(call(*c) for c in calls)) == ["a", "a bb", "x", "a bb ccc"]
    assert ended == ["x", "a", "bb", "ccc"]


async def test_a_cancelled_call_lets_the_next_one_of_its_tool_run():
    session = executor(Notes()).open_session()
    first, second = (asyncio.create_task(session.call(say(text, "notes"))) for text in ("a", "bb"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).content == "bb"


async def test_state_that_cannot_be_copied_refuses_the_branch():
    tools = executor(Unforkable())
    session = tools.open_session()
    await session.call(say("x"))
    with pytest.raises(ToolError, match="cannot be copied"):
        session.fork()


async def test_closing_a_session_closes_only_its_own_tools():
    shared, stateful = Echo("echo"), Counter("counter")
    tools = executor(shared, stateful)
    session = tools.open_session()
    fork = session._tools["counter"]
    await session.aclose()
    assert (fork.is_closed, stateful.is_closed, shared.is_closed) == (True, False, False)  # type: ignore[attr-defined]
    await tools.aclose()
    assert (stateful.is_closed, shared.is_closed) == (True, True)


async def test_counts_are_taken_once_and_the_tools_add_up_to_the_total():
    tools = executor(Echo("a"), Echo("b", error=ValueError("x")))
    session = tools.open_session()
    for name in ("a", "a", "b"):
        await session.call(say("x", name=name))
    counts, metrics = tools.counts, tools.drain_metrics()
    assert (counts.per_tool["a"].issued, counts.per_tool["b"].issued, counts.issued) == (2, 1, 3)
    assert (counts.per_tool["a"].errors, counts.per_tool["b"].errors, counts.errors) == (0, 1, 1)
    assert (metrics["rollout/tool_calls_issued"], metrics["rollout/tool_error_rate"]) == (3, pytest.approx(1 / 3))
    assert (tools.counts.issued, tools.drain_metrics()["rollout/tool_calls_issued"]) == (0, 0)


def test_one_executor_serves_one_event_loop_after_another():
    tools = executor(Echo(is_cacheable=True, delay=0.01), max_concurrency=1)

    async def several() -> list[str]:
        return [r.content for r in await asyncio.gather(*(tools.open_session().call(say(str(i))) for i in range(3)))]

    assert asyncio.run(several()) == asyncio.run(several()) == ["0", "1", "2"]


async def test_arguments_that_are_no_json_do_not_stop_the_trajectory(tmp_path: Path):
    tools = executor(Echo(is_cacheable=True), cache=Cache(tmp_path / "c.sqlite"))
    result = await tools.open_session().call(ToolCall(name="echo", arguments={"text": "a", "more": object()}))
    assert (result.content, result.cached) == ("a", False)


class Flaky(Echo):
    """Fails `num_failures` times in a way that may pass, or not, then answers."""

    def __init__(self, num_failures: int, *, may_pass: bool = True, retry_after_s: float | None = None, **echo: Any) -> None:
        super().__init__(**echo)
        self.num_failures, self.may_pass, self.retry_after_s = num_failures, may_pass, retry_after_s

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        result = await super().run(arguments)
        if self.num_runs <= self.num_failures:
            if self.may_pass:
                raise TransientError("busy", self.retry_after_s)
            return ToolResult(content="busy", status="error")
        return result


@pytest.mark.parametrize(
    ("num_failures", "may_pass", "retries", "expected"),
    [
        (2, True, 2, ("success", 3, 2)),
        (3, True, 2, ("error", 3, 2)),
        (1, False, 2, ("error", 1, 0)),
        (1, True, 0, ("error", 1, 0)),
    ],
)
async def test_only_a_failure_that_may_pass_is_tried_again(
    num_failures: int, may_pass: bool, retries: int, expected: tuple[str, int, int]
):
    tool = Flaky(num_failures, may_pass=may_pass)
    tools = executor(tool, retries=retries, **({"backoff_s": 0.001} if retries else {}))
    result = await tools.open_session().call(say("x"))
    assert (result.status, tool.num_runs, tools.counts.retries) == expected
    assert result.content == ("x" if result.status == "success" else "busy")
    assert (tools.counts.issued, tools.counts.executed) == (1, 1)


async def test_neither_an_empty_result_nor_an_exception_is_tried_again():
    empty, broken = Echo("empty"), Echo("broken", error=ValueError("x"))
    session = executor(empty, broken, backoff_s=0.001).open_session()
    await session.call(say("", "empty"))
    await session.call(say("", "broken"))
    assert (empty.num_runs, broken.num_runs) == (1, 1)


async def test_a_server_says_when_to_come_again(no_waiting: list[float]):
    assert (await executor(Flaky(1, retry_after_s=7.0)).open_session().call(say("x"))).status == "success"
    assert no_waiting == [7.0]
    late = Flaky(1, retry_after_s=7.0)
    result = await executor(late, timeout_s=7.0).open_session().call(say("x"))
    assert (result.status, result.content, late.num_runs) == ("error", "busy", 1), "beyond the call's time limit"


async def test_time_limit_holds_for_all_tries_together():
    tool = Flaky(10**9)
    result = await executor(tool, timeout_s=0.2, retries=10, backoff_s=0.05).open_session().call(say("x"))
    assert result.status == "error"
    assert tool.num_runs < 5  # waits of at least 25, 50, 100 ms add up to more than the fourth leaves


async def test_waiting_between_tries_keeps_no_slot():
    flaky, echo = Flaky(1, name="flaky"), Echo()
    tools = executor(flaky, echo, max_concurrency=1, backoff_s=60)
    waiting = asyncio.create_task(tools.open_session().call(say("x", "flaky")))
    while not flaky.num_runs:
        await asyncio.sleep(0)
    assert (await tools.open_session().call(say("y"))).content == "y"
    waiting.cancel()


async def test_a_tool_may_have_its_own_bound_on_calls_at_once():
    narrow, wide = Echo("narrow", delay=0.01), Echo("wide", delay=0.01)
    tools = executor(narrow, wide, max_concurrency=6, max_concurrency_per_tool={"narrow": 2})
    calls = [say(str(i), name) for i in range(6) for name in ("narrow", "wide")]
    await asyncio.gather(*(tools.open_session().call(call) for call in calls))
    assert (narrow.peak, narrow.num_runs) == (2, 6)
    assert wide.peak > 2


async def test_a_tool_may_have_its_own_bound_on_calls_of_a_path():
    tools = executor(Echo("search"), Echo("python"), max_calls=3, max_calls_per_tool={"search": 1})
    session = tools.open_session()
    assert (await session.call(say("a", "search"))).status == "success"
    branch = session.fork()
    for path in (session, branch):
        refused = await path.call(say("b", "search"))
        assert (refused.status, path.num_calls) == ("refused", 1)
        assert "1 calls of search" in refused.content
        assert (await path.call(say("c", "python"))).status == "success"


@pytest.mark.parametrize("limit", ["max_calls_per_tool", "max_concurrency_per_tool"])
def test_limit_of_a_tool_that_is_not_there_or_of_nothing_is_an_error(limit: str):
    with pytest.raises(ConfigError, match=rf"{limit}: there is no tool 'serach'"):
        executor(Echo(), **{limit: {"serach": 1}})
    with pytest.raises(ValueError, match=rf"{limit}\.echo\n.*greater than or equal to 1"):
        executor(Echo(), **{limit: {"echo": 0}})


async def test_metrics_of_each_tool(tmp_path: Path):
    good = Echo("good", is_cacheable=True)
    tools = executor(
        good, Echo("bad", error=ValueError("x")), Echo("slow", delay=30), Flaky(1, name="flaky"),
        cache=Cache(tmp_path / "c"), timeouts_s={"slow": 0.01}, max_calls_per_tool={"slow": 1}, max_result_tokens=9,
        backoff_s=0.001, max_calls=99,
    )  # fmt: skip
    session = tools.open_session()
    for text, name in [("a", "good"), ("a", "good"), ("b", "good"), ("a " * 9, "good"), ("a", "bad"), ("a", "flaky"),
                       ("a", "slow"), ("a", "slow"), ("a", "none")]:  # fmt: skip
        await session.call(say(text, name))
    metrics = tools.drain_metrics()
    # good: 4 calls, of which one came from the cache and one was cut; slow: one timeout, one refused
    expected = {
        "good": {"calls": 4, "success_rate": 1, "cached_rate": 0.25, "truncated_rate": 0.25, "retries": 0},
        "bad": {"calls": 1, "success_rate": 0, "error_rate": 1, "timeout_rate": 0},
        "slow": {"calls": 2, "success_rate": 0, "error_rate": 0, "timeout_rate": 0.5},
        "flaky": {"calls": 1, "success_rate": 1, "retries": 1},
    }
    for name, values in expected.items():
        assert {metric: metrics[f"tool/{name}/{metric}"] for metric in values} == values
        assert metrics[f"tool/{name}/latency_p95_s"] >= metrics[f"tool/{name}/latency_mean_s"] > 0
    assert {name.split("/")[1] for name in metrics if name.startswith("tool/")} == set(expected)
    check_names(metrics)


def test_latency_of_the_95th_percentile():
    counts = ExecutorCounts(issued=40, per_tool={"t": ToolCounts(issued=40, latencies=[float(i) for i in range(40, 0, -1)])})
    # 38 of 40 calls, 95 %, took 38 s or less; the mean of 1 ... 40 is 20.5
    metrics = tool_metrics(counts)
    assert (metrics["tool/t/latency_p95_s"], metrics["tool/t/latency_mean_s"]) == (38.0, 20.5)


# --- arguments by the schema -----------------------------------------------------------------------------------------

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"}, "n": {"type": "integer", "minimum": 1}, "at": {"type": ["string", "null"]},
        "unit": {"enum": ["km", "mi"]}, "places": {"type": "array", "items": {"$ref": "#/$defs/Place"}},
    },
    "required": ["text"],
    "additionalProperties": False,
    "$defs": {"Place": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}},
}  # fmt: skip


class Strict(Echo):
    """Takes what its schema allows only."""

    schema = SCHEMA


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": "a", "timeout": 3}, "'timeout' was unexpected"),
        ({}, "'text' is a required property"),
        ({"text": 3}, "argument 'text': 3 is not of type 'string'"),
        ({"text": ["Ada", "Moor"]}, "argument 'text': ['Ada', 'Moor'] is not of type 'string'"),
        ({"text": None}, "argument 'text': None is not of type 'string'"),
        ({"text": "a", "n": "3"}, "argument 'n': '3' is not of type 'integer'"),
        ({"text": "a", "n": 0}, "argument 'n': 0 is less than the minimum of 1"),
        ({"text": "a", "unit": "m"}, "argument 'unit': 'm' is not one of ['km', 'mi']"),
        ({"text": "a", "places": [{"town": "x"}, {}]}, "argument 'places.1': 'town' is a required property"),
        ({"text": "a", "n": "x" * 100_000}, "is not of type 'integer'"),
    ],
)
async def test_arguments_the_schema_forbids_are_refused_and_the_model_is_told_what_to_change(
    arguments: dict[str, Any], words: str
):
    tool = Strict()
    result = await executor(tool, max_result_tokens=10_000).open_session().call(ToolCall(name="echo", arguments=arguments))
    assert (result.status, tool.num_runs) == ("error", 0)
    assert result.content.startswith("echo: ")
    assert words in result.content
    assert len(result.content) < 1000
    assert result.content.endswith("text (string), n (integer, optional), at (string or null, optional), unit (optional), "
                                   "places (array, optional).")  # fmt: skip


async def test_arguments_that_fit_the_schema_run():
    tool = Strict()
    fits = {"text": "a", "n": 3, "at": None, "unit": "km", "places": [{"town": "x"}]}
    result = await executor(tool).open_session().call(ToolCall(name="echo", arguments=fits))
    assert (result.content, tool.num_runs) == ("a", 1)


async def test_a_refused_call_counts_as_a_call_and_as_an_error():
    tools = executor(Strict(), max_calls=1)
    session = tools.open_session()
    assert [(await session.call(ToolCall(name="echo", arguments={}))).status for _ in "ab"] == ["error", "refused"]
    assert (tools.counts.issued, tools.counts.executed) == (2, 0)


def test_a_tool_without_a_valid_schema_is_refused_at_once():
    class Wrong(Echo):
        schema: Mapping[str, Any] = {"type": "object", "properties": {"text": {"type": "strin"}}}

    with pytest.raises(ToolError, match="tool 'echo': the arguments have no valid schema: 'strin'"):
        executor(Wrong())
