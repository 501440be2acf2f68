"""Tools are built from their sections and from nothing else."""

from pathlib import Path

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError, ToolError
from arpo.tools.base import Tool
from arpo.tools.build import build_tools
from arpo.tools.config import ToolsConfig
from arpo.tools.function import FunctionTool, as_tools


def test_no_tool_is_an_error_that_says_what_to_add():
    with pytest.raises(ConfigError, match=r"\[tools\.python\]"):
        build_tools(ToolsConfig())


async def test_section_gives_its_tool():
    tools = build_tools(parse_config(ToolsConfig, {"python": {"wall_s": 2.0}}, "test"))
    assert list(tools) == ["python"]
    assert isinstance(tools["python"], Tool)
    await tools["python"].aclose()


def test_missing_index_is_an_error(tmp_path: Path):
    with pytest.raises(ToolError):
        build_tools(parse_config(ToolsConfig, {"search": {"index": str(tmp_path / "none")}}, "test"))


def test_unknown_key_is_named():
    with pytest.raises(ConfigError, match=r"python\.wall_s"):
        parse_config(ToolsConfig, {"python": {"wal_s": 2.0}}, "test")


OWN = '''
import arpo
from arpo.tools.base import StatelessTool
from arpo.types import ToolResult


def calc(a: int, b: int = 1) -> int:
    """Sum of two numbers.

    Args:
        a: The first.
    """
    return a + b


@arpo.tool(deterministic=True)
def double(a: int) -> int:
    """Twice a number."""
    return 2 * a


class Dice(StatelessTool):
    name = "dice"
    schema = {"type": "object", "properties": {}, "required": []}
    version = "1"
    is_cacheable = False

    async def run(self, arguments):
        return ToolResult(content="4")


dice = Dice()
number = 3


def unhinted(a):
    return a
'''


async def test_functions_of_a_file_are_tools_with_the_schema_of_their_hints(tmp_path: Path):
    (tmp_path / "mine.py").write_text(OWN)
    names = {"plus": "calc", "calc": "calc", "twice": "double", "dice": "dice"}
    tools = build_tools(ToolsConfig(functions={name: f"{tmp_path}/mine.py:{text}" for name, text in names.items()}))
    assert {name: tool.name for name, tool in tools.items()} == {name: name for name in names}
    assert tools["plus"].schema["description"] == "Sum of two numbers."
    assert tools["plus"].schema["properties"]["a"] == {"type": "integer", "description": "The first."}
    assert tools["plus"].schema["required"] == ["a"]
    results = [await tools[name].run(arguments) for name, arguments in (("plus", {"a": 2}), ("twice", {"a": 2}), ("dice", {}))]
    assert [result.content for result in results] == ["3", "4", "4"]
    assert [tools[name].is_cacheable for name in names] == [False, False, True, False]
    (tmp_path / "mine.py").write_text(OWN + "LIMIT = 3\n")
    again = build_tools(ToolsConfig(functions={"twice": f"{tmp_path}/mine.py:double"}))["twice"]
    assert again.version != tools["twice"].version, "cached results are those of the whole file"
    versions = {name: tools[name].version for name in ("plus", "calc")}
    assert versions["plus"] != versions["calc"], "the name is part of the cache's key"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none", "mine.py:none", r"mine.py has no 'none'"),
        ("number", "mine.py:number", "is a int; it must be a function"),
        ("dice", "mine.py:Dice", r"is the class Dice; name a function, or a tool made of it"),
        ("cube", "mine.py:dice", "is a tool that calls itself 'dice'"),
        ("unhinted", "mine.py:unhinted", "parameter 'a' must be an ordinary one with a type hint"),
        ("calc", "other.py:calc", "no such file"),
    ],
)
def test_what_is_no_tool_is_refused_in_one_line(tmp_path: Path, name: str, text: str, words: str):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises((ConfigError, ToolError), match=f"tools.functions.{name} = .*{text}': .*{words}|{words}") as error:
        build_tools(ToolsConfig(functions={name: f"{tmp_path}/{text}"}))
    assert str(error.value).startswith(f"tools.functions.{name} = ")
    assert "\n" not in str(error.value)


def test_a_function_in_the_place_of_a_configured_tool_is_refused(tmp_path: Path):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(ConfigError, match=r"tools.functions.python: the section tools.python is a tool of that name too"):
        build_tools(ToolsConfig.model_validate({"python": {}, "functions": {"python": f"{tmp_path}/mine.py:calc"}}))


def test_tools_given_from_python_are_functions_or_tools():
    def calc(a: int) -> int:
        return a

    given = as_tools({"calc": calc, "plus": FunctionTool(calc)})
    assert {name: (type(tool), tool.name) for name, tool in given.items()} == {
        "calc": (FunctionTool, "calc"), "plus": (FunctionTool, "plus")
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"tools\['x'\] is a str"):
        as_tools({"x": "calc"})  # pyright: ignore[reportArgumentType]
