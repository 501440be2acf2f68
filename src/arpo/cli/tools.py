"""Builds tools from a configuration and calls them by hand, through the executor of training."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from arpo.config import Config, load_config
from arpo.errors import ConfigError
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.tag_arguments import TagArguments
from arpo.tools.base import Tool
from arpo.tools.build import build_tools
from arpo.tools.config import ToolsConfig
from arpo.tools.executor import ToolExecutor
from arpo.types import ToolCall, ToolResult


class _Agent(Config, extra="ignore"):
    tools: ToolsConfig | None = None


class _File(Config, extra="ignore"):
    """Any configuration file with tools: a run's, or one with nothing else."""

    agent: _Agent = _Agent()
    tools: ToolsConfig | None = None


def load_tools(path: Path | None, overrides: Sequence[str]) -> ToolsConfig:
    """The tools' configuration: `[agent.tools]` or `[tools]` of a file, with overrides on top.

    Args:
        path: a run's configuration, or any file with such a section; None: overrides alone.
        overrides: keys of `arpo config docs tools`, e.g. `search.index=runs/quickstart/index`.

    Raises:
        ConfigError: the file has no such section; a key is unknown, out of range, or missing.
    """
    if path is None:
        return load_config(ToolsConfig, None, overrides)
    file = load_config(_File, path)
    for section, tools in (("agent.tools", file.agent.tools), ("tools", file.tools)):
        if tools is not None:
            changed = load_config(_File, path, [f"{section}.{override}" for override in overrides])
            return changed.agent.tools or changed.tools or tools
    raise ConfigError(f"{path}: it has neither a section [agent.tools] nor [tools]; add one, e.g. [agent.tools.python]")


@asynccontextmanager
async def open_tools(config: ToolsConfig) -> AsyncIterator[dict[str, Tool]]:
    """Open the configured tools and close them at the end; raises as `build_tools`."""
    tools = build_tools(config)
    try:
        yield tools
    finally:
        for tool in tools.values():
            await tool.aclose()


async def call_tool(config: ToolsConfig, name: str, text: str | None, arguments: str | None) -> ToolResult:
    """The result of one uncached call; only the limits of the tool's section cut it, not a policy's tokens.

    Args:
        config: the tools.
        name: of the one to call.
        text: what the model would write between the tool's tags; None with `arguments`.
        arguments: a JSON object; None with `text`, or for no arguments.

    Raises:
        ConfigError: there is no such tool, the arguments are no JSON object, or text and arguments are both given.
        ToolError: a tool cannot be set up on this machine.
    """
    async with open_tools(config) as tools:
        if name not in tools:
            raise ConfigError(f"there is no tool {name!r}; the configuration has: {', '.join(tools)}")
        call = _read_call(tools[name], text, arguments)
        executor = ToolExecutor(tools, config.executor, cut=lambda content, _: (content, False))
        return await executor.open_session().call(call)


def _read_call(tool: Tool, text: str | None, arguments: str | None) -> ToolCall:
    if text is None:
        return ToolCall(name=tool.name, arguments=_read_object(arguments or "{}"))
    if arguments is not None:
        raise ConfigError("--arguments: give arguments or a text, not both")
    call = TagArguments.of(tool.name, TagProtocolConfig(), tool.schema).read(text)
    if call is None:
        raise ConfigError(f"the text for {tool.name!r} is empty; write one, or --arguments '{{...}}'")
    return call


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--arguments {text!r}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ConfigError(f'--arguments {text!r}: write a JSON object, e.g. \'{{"query": "Ada Moor"}}\'')
    return value
