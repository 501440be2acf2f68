"""Tools of MCP servers: real ones of the official package, and ones that die, hang and lie."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from arpo.config import parse_config
from arpo.errors import ConfigError, ToolError
from arpo.tools.base import Tool, TransientError
from arpo.tools.build import build_tools
from arpo.tools.config import ExecutorConfig, ToolsConfig
from arpo.tools.executor import ToolExecutor
from arpo.types import ToolCall, ToolResult

HERE = Path(__file__).parent
HONEST = {"command": sys.executable, "args": [str(HERE / "honest_server.py")]}


def lying(lie: str, **options: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(HERE / "lying_server.py"), lie], **options}


@pytest.fixture
def connect() -> Iterator[Callable[..., dict[str, Tool]]]:
    """A function that connects to a server; all are left at the end, and no program of theirs is."""
    before = set(children())
    opened: list[Tool] = []

    def connect(server: dict[str, Any], name: str = "s") -> dict[str, Tool]:
        tools = build_tools(parse_config(ToolsConfig, {"mcp": {name: server}}, "test"))
        opened.extend(tools.values())
        return tools

    yield connect
    for tool in opened:
        asyncio.run(tool.aclose())
        asyncio.run(tool.aclose())
    assert set(children()) <= before, "a server outlived its connection"


def children() -> list[int]:
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and "_server.py" in (entry / "cmdline").read_text():
            pids.append(int(entry.name))
    return pids


@pytest.fixture(scope="module")
def honest() -> Iterator[dict[str, Tool]]:
    tools = build_tools(parse_config(ToolsConfig, {"mcp": {"s": HONEST}}, "test"))
    yield tools
    for tool in tools.values():
        asyncio.run(tool.aclose())


async def by_executor(tool: Tool, **arguments: Any) -> ToolResult:
    executor = ToolExecutor({tool.name: tool}, ExecutorConfig(), cut=lambda content, _: (content, False))
    return await executor.open_session().call(ToolCall(name=tool.name, arguments=arguments))


async def text(tool: Tool, **arguments: Any) -> tuple[str, str]:
    try:
        result = await tool.run(arguments)
    except TransientError as error:
        return "error", str(error)
    return result.status, result.content


# --- an honest server ------------------------------------------------------------------------------------------------


def test_the_tools_of_a_server_are_tools(honest: dict[str, Tool]):
    assert set(honest) == {"add", "get-page", "fail", "picture", "environment"}
    add = honest["add"]
    assert isinstance(add, Tool)
    assert add.schema["description"] == "Sum of two numbers."
    assert add.schema["required"] == ["a"]
    assert add.schema["properties"]["b"]["default"] == 1
    assert not add.is_cacheable
    assert add.fork() is add
    assert add.version != honest["fail"].version


async def test_calls_are_carried_out(honest: dict[str, Tool]):
    assert await text(honest["add"], a=2, b=3) == ("success", "5")
    assert await text(honest["get-page"], url="x") == ("success", "body of x")
    status, content = await text(honest["fail"])
    assert (status, content) == ("error", "Error executing tool fail")
    assert await text(honest["picture"]) == ("success", "[image: image/png, 6 bytes]\ncaption")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"a": "two"}, "argument 'a': 'two' is not of type 'integer'"),
        ({}, "'a' is a required property"),
        ({"a": None}, "argument 'a'"),
    ],
)
async def test_wrong_arguments_are_named_and_not_sent(honest: dict[str, Tool], arguments: dict[str, Any], words: str):
    result = await by_executor(honest["add"], **arguments)
    assert (result.status, result.content.startswith("add: "), words in result.content) == ("error", True, True), result


async def test_calls_run_side_by_side_and_from_any_event_loop(honest: dict[str, Tool]):
    results = await asyncio.gather(*(honest["add"].run({"a": n}) for n in range(20)))
    assert [r.content for r in results] == [str(n + 1) for n in range(20)]
    assert await asyncio.to_thread(lambda: asyncio.run(honest["add"].run({"a": 1}))) == await honest["add"].run({"a": 1})


def test_tools_are_chosen_and_renamed(connect: Callable[..., dict[str, Tool]]):
    tools = connect(HONEST | {"tools": {"get-page": "page", "add": "add"}, "deterministic": True})
    assert list(tools) == ["page", "add"]
    assert asyncio.run(text(tools["page"], url="x", part="head")) == ("success", "head of x")
    assert tools["add"].is_cacheable


def test_a_server_gets_the_environment_it_is_given_and_no_more(
    connect: Callable[..., dict[str, Tool]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SERVER_KEY", "k1")
    monkeypatch.setenv("OTHER_KEY", "k2")
    tool = connect(HONEST | {"env": {"MODE": "fast"}, "env_names": ["SERVER_KEY"]})["environment"]
    seen = [asyncio.run(text(tool, name=name))[1] for name in ("MODE", "SERVER_KEY", "OTHER_KEY")]
    assert seen == ["fast", "k1", "None"]
    with pytest.raises(ToolError, match=r"tools\.mcp\.s\.env_names = 'NO_SUCH_KEY': this environment variable is not set"):
        connect(HONEST | {"env_names": ["NO_SUCH_KEY"]})


# --- a server over HTTP ----------------------------------------------------------------------------------------------


def start_http() -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return launch(port), port


def launch(port: int) -> subprocess.Popen[bytes]:
    program = subprocess.Popen([*HONEST["args"][:0], sys.executable, *HONEST["args"], str(port)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return program
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


def test_a_server_over_http_that_dies_and_comes_back(connect: Callable[..., dict[str, Tool]]):
    program, port = start_http()
    try:
        tools = connect({"url": f"http://127.0.0.1:{port}/mcp"})
        assert asyncio.run(text(tools["add"], a=2)) == ("success", "3")
        program.kill()
        program.wait()
        with pytest.raises(TransientError, match="The MCP server 's' is not there"):
            asyncio.run(tools["add"].run({"a": 2}))
        program = launch(port)
        assert asyncio.run(text(tools["add"], a=2)) == ("success", "3")
    finally:
        program.kill()
        program.wait()


def test_an_address_where_nobody_listens(connect: Callable[..., dict[str, Tool]]):
    with pytest.raises(ToolError, match=r"tools\.mcp\.s \(http://127\.0\.0\.1:9/mcp\): "):
        connect({"url": "http://127.0.0.1:9/mcp", "connect_timeout_s": 10})


# --- servers that die and hang ---------------------------------------------------------------------------------------


async def test_a_server_that_dies_fails_its_call_and_is_started_again(connect: Callable[..., dict[str, Tool]]):
    echo = connect(lying("nothing"))["echo"]
    first = await text(echo, text="pid")
    with pytest.raises(TransientError, match=r"^The MCP server 's' is not there: .*it last wrote: my last words$"):
        await echo.run({"text": "die"})
    second = await text(echo, text="pid")
    assert second[0] == "success"
    assert second != first, "another process"


async def test_a_reply_that_cannot_be_read_fails_its_call_at_once(connect: Callable[..., dict[str, Tool]]):
    """Half a surrogate pair; what cannot be read has no number, so nobody would ever answer the call."""
    echo = connect(lying("nothing"))["echo"]
    async with asyncio.timeout(30):
        status, content = await text(echo, text="half a pair")
    assert (status, "its reply cannot be read" in content) == ("error", True)
    assert await text(echo, text="and then") == ("success", "and then")


async def test_a_death_takes_calls_with_it_that_the_executor_repeats(connect: Callable[..., dict[str, Tool]]):
    before = set(children())
    executor = ToolExecutor(connect(lying("nothing")), ExecutorConfig(backoff_s=0.01), cut=lambda content, _: (content, False))
    waiting = asyncio.create_task(executor.open_session().call(ToolCall(name="echo", arguments={"text": "wait"})))
    await asyncio.sleep(0.2)
    for pid in set(children()) - before:
        os.kill(pid, 9)
    assert (await waiting).content == "wait"
    assert executor.counts.retries == 1


async def test_a_call_that_takes_too_long_is_given_up_and_the_server_goes_on(connect: Callable[..., dict[str, Tool]]):
    echo = connect(lying("no answer"))["echo"]
    executor = ToolExecutor({"echo": echo}, ExecutorConfig(timeout_s=0.2), cut=lambda content, _: (content, False))
    before = children()
    result = await executor.open_session().call(ToolCall(name="echo", arguments={"text": "x"}))
    assert (result.status, result.content) == ("timeout", "echo: stopped after 0.2 s.")
    await asyncio.sleep(0.3)
    assert children() == before, "it still answers other questions, so it was not ended"


async def test_a_server_that_answers_nobody_any_more_is_replaced(
    connect: Callable[..., dict[str, Tool]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("arpo.tools.mcp.session._PROBE_S", 0.2)
    echo = connect(lying("nothing"))["echo"]
    pid = int((await text(echo, text="pid"))[1])
    os.kill(pid, 19)  # SIGSTOP
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(echo.run({"text": "x"}), 0.2)
    deadline = time.monotonic() + 30
    while pid in children() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    status, other = await text(echo, text="pid")
    assert (status, int(other) != pid) == ("success", True)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (lying("silent", connect_timeout_s=0.5), r"no answer within connect_timeout_s = 0\.5 s"),
        (lying("dies at once"), "it last wrote: no licence found"),
        ({"command": "no-such-program-here"}, r"tools\.mcp\.s \(no-such-program-here\): .*No such file"),
        (lying("bad schema"), "its tool 'echo': the arguments have no valid schema: .*strin"),
        (lying("no schema"), r"tools\.mcp\.s"),
        (lying("no list"), r"tools\.mcp\.s"),
        (lying("bad name"), "cannot call a tool .*tools = "),
        (lying("endless list"), "more than 100 pages"),
        (lying("honest", tools={"ehco": "e"}), "has no tool 'ehco'; it has: echo"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_with_the_reason(
    connect: Callable[..., dict[str, Tool]], server: dict[str, Any], words: str
):
    before = children()
    with pytest.raises(ToolError, match=words):
        connect(server)
    assert children() == before


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("no result", "the server does not keep its word"), ("another kind", "the server does not keep its word"),
        ("output schema", "the server does not keep its word"),
        ("half a line", "is not there"),
    ],
)  # fmt: skip
async def test_a_lie_becomes_an_error_of_its_call(connect: Callable[..., dict[str, Tool]], lie: str, words: str):
    status, content = await text(connect(lying(lie))["echo"], text="x")
    assert (status, words in content) == ("error", True), content


async def test_a_schema_that_leads_elsewhere_is_not_fetched(connect: Callable[..., dict[str, Tool]]):
    result = await by_executor(connect(lying("remote reference"))["echo"], text="x")
    assert (result.status, "its schema cannot be followed" in result.content) == ("error", True), result


@pytest.mark.parametrize("lie", ["another id", "null"])
async def test_a_lie_that_costs_time_is_stopped_with_its_call(connect: Callable[..., dict[str, Tool]], lie: str):
    executor = ToolExecutor(connect(lying(lie)), ExecutorConfig(timeout_s=0.5), cut=lambda content, _: (content, False))
    result = await executor.open_session().call(ToolCall(name="echo", arguments={"text": "a" * 26 + "b"}))
    assert result.status == "timeout"


async def test_a_servers_pattern_is_not_followed_as_it_may_take_for_ever(connect: Callable[..., dict[str, Tool]]):
    evil = "a" * 60 + "b"
    result = await by_executor(connect(lying("slow pattern"))["echo"], text=evil, aab=1)
    assert (result.status, result.content) == ("success", evil)


async def test_noise_between_messages_is_ignored(connect: Callable[..., dict[str, Tool]], capfd: pytest.CaptureFixture[str]):
    assert await text(connect(lying("noise"))["echo"], text="x") == ("success", "x")
    assert "Traceback" not in capfd.readouterr().err


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "set one of command"), ({"command": "a", "url": "http://b"}, "set one of command"),
        ({"command": "a", "token_env": "K"}, "set mcp.s.url"),
        ({"url": "http://b", "args": ["x"]}, "args has no effect with mcp.s.command = None"),
        ({"command": "a", "tools": {"x": "n", "y": "n"}}, "two tools the same name"),
        ({"command": "a", "tols": {}}, r"mcp\.s\.tols: unknown key; did you mean"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_explained(section: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        parse_config(ToolsConfig, {"mcp": {"s": section}}, "test")


def test_two_servers_with_a_tool_of_the_same_name_are_refused(connect: Callable[..., dict[str, Tool]]):
    with pytest.raises(ConfigError, match=r"tools\.mcp\.b: another tool is called 'echo' too; rename one"):
        build_tools(parse_config(ToolsConfig, {"mcp": {"a": lying("honest"), "b": lying("honest")}}, "test"))
