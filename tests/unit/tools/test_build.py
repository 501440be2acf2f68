"""Tools are built from their sections and from nothing else."""

from pathlib import Path

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError, ToolError
from arpo.tools.base import Tool
from arpo.tools.build import build_tools
from arpo.tools.config import ToolsConfig


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
