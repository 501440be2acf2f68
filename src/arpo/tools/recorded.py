"""Tools of a recorded run, described by the recording: their index, server or sandbox is not needed."""

from collections.abc import Mapping
from typing import Any

from arpo.cache import Cache
from arpo.tools.base import StatelessTool, Tool
from arpo.types import ToolResult


class RecordedTool(StatelessTool):
    """A tool whose results come from the recording (`cache.mode = "replay"`), a branch's too; it cannot run."""

    is_cacheable = False

    def __init__(self, name: str, version: str, schema: Mapping[str, Any]) -> None:
        self.name = name
        self.version = version
        self.schema = schema

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """An error: only the recording has results."""
        return ToolResult(content=f"{self.name}: this tool is known from a recording only and cannot run.", status="error")


def record_tools(cache: Cache, tools: Mapping[str, Tool]) -> None:
    """Record the versions and schemas of a run's tools."""
    for tool in tools.values():
        cache.record_tool(tool.name, tool.version, tool.schema)


def recorded_tools(cache: Cache) -> dict[str, Tool]:
    """The recorded tools by name; empty when the recording does not describe them."""
    return {name: RecordedTool(name, *rest) for name, rest in cache.recorded_tools().items()}
