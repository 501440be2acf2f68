"""A function becomes a tool: its schema, its arguments, its failures."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

import arpo
from arpo.errors import ToolError
from arpo.tools.base import Tool
from arpo.tools.function import FunctionTool
from arpo.types import ToolResult


def scale(text: str, factor: float = 2.0, times: int | None = None) -> str:
    """Repeat a text,
    as often as asked.

    Args:
        text: What to repeat.
        factor: By how much.
    """
    return f"{text}:{factor * (times or 1):g}"


def test_schema_comes_from_hints_and_docstring():
    tool = FunctionTool(scale)
    assert isinstance(tool, Tool)
    assert (tool.name, FunctionTool(scale, name="other").name) == ("scale", "other")
    assert tool.schema["description"] == "Repeat a text, as often as asked."
    assert tool.schema["required"] == ["text"]
    assert tool.schema["properties"]["text"] == {"type": "string", "description": "What to repeat."}
    assert tool.schema["properties"]["factor"] == {"type": "number", "description": "By how much.", "default": 2.0}
    assert tool.schema["additionalProperties"] is False


def test_given_schema_is_taken_as_it_is():
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    assert FunctionTool(scale, schema=schema).schema is schema


async def test_plain_and_asynchronous_functions_run():
    async def shout(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    assert (await FunctionTool(scale).run({"text": "a", "factor": "3"})).content == "a:3"
    assert (await FunctionTool(shout).run({"text": "a"})).content == "A"


async def test_value_that_is_no_string_is_shown_as_python_shows_it():
    def divide(a: int, b: int) -> tuple[int, int]:
        return divmod(a, b)

    tool = FunctionTool(divide)
    assert (await tool.run({"a": 7, "b": 2})).content == "(3, 1)"  # 7 = 3 * 2 + 1
    failed = await tool.run({"a": 7, "b": 0})
    assert failed.status == "error"
    assert failed.content.startswith("ZeroDivisionError: ")


@pytest.mark.parametrize(
    ("arguments", "named"), [({}, "text"), ({"text": "a", "color": 1}, "color"), ({"text": "a", "factor": "x"}, "factor")]
)
async def test_wrong_arguments_are_an_error_that_names_them(arguments: dict[str, Any], named: str):
    result = await FunctionTool(scale).run(arguments)
    assert result.status == "error"
    assert f"scale: argument '{named}'" in result.content


def test_function_without_usable_hints_is_refused():
    def unhinted(text):  # type: ignore[no-untyped-def]
        return text

    def variadic(*texts: str) -> str:
        return "".join(texts)

    def opaque(thing: asyncio.Event) -> str:
        return str(thing)

    for function in (unhinted, variadic, opaque):
        with pytest.raises(ToolError, match=function.__name__):
            FunctionTool(function)


def test_a_hint_that_json_cannot_express_is_named_in_one_line():
    def opaque(text: str, thing: asyncio.Event) -> str:
        return str(thing)

    def called(text: str, back: Callable[[int], int]) -> str:
        return text

    for function, words in ((opaque, "parameter 'thing': asyncio.locks.Event"), (called, "parameter 'back': ")):
        with pytest.raises(ToolError, match=words) as error:
            FunctionTool(function)
        assert "\n" not in str(error.value)
        assert "pydantic." not in str(error.value)
        assert "JSON cannot express; use str, int" in str(error.value)


class Place(BaseModel):
    """Where."""

    town: str
    year: int = 1900


@arpo.tool
def report(
    unit: Literal["km", "miles"],
    places: list[Place],
    limits: dict[str, float] | None = None,
    schema: Annotated[int, Field(ge=1)] = 3,
    copy: bool = False,
) -> str:
    """Tell about places.

    Args:
        unit: Of lengths,
            always the same one.
        schema: Number of a form.
    """
    return f"{unit} {[type(p).__name__ + ' ' + p.town for p in places]} {limits} {schema} {copy}"


def test_every_kind_of_hint_becomes_schema():
    properties = report.schema["properties"]
    assert list(properties) == ["unit", "places", "limits", "schema", "copy"]
    assert properties["unit"] == {"enum": ["km", "miles"], "type": "string", "description": "Of lengths, always the same one."}
    assert properties["places"] == {"type": "array", "items": {"$ref": "#/$defs/Place"}}
    assert properties["limits"]["anyOf"] == [{"type": "object", "additionalProperties": {"type": "number"}}, {"type": "null"}]
    assert properties["schema"] == {"type": "integer", "minimum": 1, "default": 3, "description": "Number of a form."}
    assert report.schema["required"] == ["unit", "places"]
    assert report.schema["$defs"]["Place"]["required"] == ["town"]


async def test_arguments_arrive_as_the_hints_say():
    result = await report.run({"unit": "km", "places": [{"town": "Kelford"}], "limits": {"a": 1}, "copy": True})
    assert result.content == "km ['Place Kelford'] {'a': 1.0} 3 True"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unit": "m", "places": []}, "argument 'unit': Input should be 'km' or 'miles'"),
        ({"unit": "km", "places": [{"year": 1}]}, "argument 'places.0.town': Field required"),
        ({"unit": "km", "places": [], "schema": 0}, "argument 'schema': Input should be greater than or equal to 1"),
        ({"unit": "km", "places": [], "argument_0": "km"}, "argument 'argument_0': Extra inputs"),
        ({"unit": None, "places": "x"}, "argument 'places'"),
    ],
)
async def test_arguments_that_break_a_hint_are_named(arguments: dict[str, Any], words: str):
    result = await report.run(arguments)
    assert (result.status, words in result.content) == ("error", True), result.content


async def test_a_decorated_function_is_a_tool_and_still_a_function():
    @arpo.tool(name="sum", deterministic=True)
    async def add(a: int, b: int = 1) -> int:
        """Sum of two numbers."""
        return a + b

    assert isinstance(add, Tool)
    assert (add.name, add.is_cacheable, report.is_cacheable) == ("sum", True, False)
    assert await add(2, 3) == 5
    assert (await add.run({"a": "2"})).content == "3"
    assert add.__doc__ == "Sum of two numbers."


def test_the_version_of_a_tool_is_that_of_its_source():
    def make(source: str) -> FunctionTool:
        def one(a: int) -> int:
            return a + 1

        def two(a: int) -> int:
            return a + 2

        return FunctionTool({"one": one, "two": two}[source], "f", deterministic=True)

    assert make("one").version == make("one").version != make("two").version


async def test_plain_functions_run_side_by_side_and_asynchronous_ones_in_the_loop():
    barrier = threading.Barrier(40, timeout=20)  # passed only when 40 calls run at once

    def meet(n: int) -> int:
        barrier.wait()
        return n

    async def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    results = await asyncio.gather(*(FunctionTool(meet).run({"n": n}) for n in range(40)))
    assert [r.content for r in results] == [str(n) for n in range(40)]
    assert (await FunctionTool(where).run({})).content == "True"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), StopAsyncIteration(), ValueError("v")])
async def test_whatever_a_function_raises_is_a_result(error: BaseException):
    def fail() -> None:
        raise error

    result = await FunctionTool(fail).run({})
    assert result.status == "error"
    assert type(error).__name__ in result.content


async def test_results_are_text_that_a_file_can_hold():
    def broken() -> str:
        return "a\ud800b"

    def given() -> ToolResult:
        return ToolResult(content="too much", status="error", truncated=True)

    assert (await FunctionTool(broken).run({})).content == "a?b"
    assert await FunctionTool(given).run({}) == ToolResult(content="too much", status="error", truncated=True)


def test_a_function_that_never_ends_does_not_keep_the_program_alive():
    program = """
import asyncio, time, arpo
@arpo.tool
def hang() -> None: time.sleep(1000)
async def main():
    try: await asyncio.wait_for(hang.run({}), 0.1)
    except TimeoutError: print("given up")
asyncio.run(main())
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "given up\n"
    assert time.monotonic() - started < 60


def test_what_cannot_be_called_by_name_is_refused():
    for thing in (7, print, lambda x: x):
        with pytest.raises(ToolError, match="FunctionTool"):
            FunctionTool(thing)  # type: ignore[arg-type]
