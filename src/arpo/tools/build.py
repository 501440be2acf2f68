"""Builds the tools of a configuration."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from arpo.errors import ConfigError, ToolError
from arpo.function_name import FunctionName
from arpo.functions.loading import load_function
from arpo.tools.base import Tool
from arpo.tools.browse.tool import BrowseTool
from arpo.tools.config import ToolsConfig
from arpo.tools.function import FunctionTool, as_tool
from arpo.tools.mcp.config import McpServerConfig
from arpo.tools.python_sandbox import PythonSandbox
from arpo.tools.search.build import build_search


def build_tools(config: ToolsConfig) -> dict[str, Tool]:
    """The configured tools by name.

    Raises:
        ConfigError: no tool is configured, two have one name, or a function of one's own cannot be loaded.
        ToolError: a tool cannot be set up on this machine.
    """
    tools: list[Tool] = []
    if config.search is not None:
        tools.append(build_search(config.search))
    if config.python is not None:
        tools.append(PythonSandbox(config.python))
    if config.browse is not None:
        tools.append(BrowseTool(config.browse))
    tools += [_function_tool(name, text) for name, text in config.functions.items()]
    _refuse_doubles(tools)
    if config.mcp:
        tools += _mcp_tools(config.mcp, {tool.name for tool in tools})
    if not tools:
        raise ConfigError("tools: no tool is configured; add a section, e.g. [tools.python] or [tools.search] with its index")
    return {tool.name: tool for tool in tools}


def tool_schemas(config: ToolsConfig) -> dict[str, Mapping[str, Any]]:
    """The JSON schemas of the configured tools by name; sets the tools up and closes them. Raises as `build_tools`."""
    tools = build_tools(config) if config.mcp or section_names(config) else {}
    for tool in tools.values():
        asyncio.run(tool.aclose())
    return {name: tool.schema for name, tool in tools.items()}


def section_names(config: ToolsConfig) -> set[str]:
    """Names of the configured tools, without those of MCP servers."""
    sections = {name for name in type(config).model_fields if name not in _NO_TOOLS and getattr(config, name) is not None}
    return sections | config.functions.keys()


_NO_TOOLS = ("executor", "cache", "mcp", "functions")


def _function_tool(name: str, text: str) -> Tool:
    label = f"tools.functions.{name} = {text!r}"
    own = load_function(FunctionName.parse(text), label)
    tool = as_tool(own.value, name, label)
    return tool.named(name, *sorted(file.digest for file in own.files)) if isinstance(tool, FunctionTool) else tool


def _refuse_doubles(tools: Sequence[Tool]) -> None:
    names = [tool.name for tool in tools]
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"tools.functions.{name}: the section tools.{name} is a tool of that name too; rename the function's")


def _mcp_tools(servers: Mapping[str, McpServerConfig], taken: set[str]) -> list[Tool]:
    try:
        from arpo.tools.mcp.tools import connect_servers  # needs an extra
    except ImportError as error:
        raise ToolError(
            f"tools.mcp.{next(iter(servers))}: the extra for MCP servers is missing ({error.name}); pip install 'arpo[mcp]'"
        ) from error
    return connect_servers(servers, taken)
