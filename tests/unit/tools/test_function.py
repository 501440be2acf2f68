"""A function becomes a tool: its schema, its arguments, its failures."""

import asyncio
from typing import Any

import pytest

from arpo.errors import ToolError
from arpo.tools.base import Tool
from arpo.tools.function import FunctionTool


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
