"""The tools a configuration asks for."""

from arpo.errors import ConfigError
from arpo.tools.base import Tool
from arpo.tools.config import ToolsConfig
from arpo.tools.python_sandbox import PythonSandbox
from arpo.tools.search.local import LocalSearch


def build_tools(config: ToolsConfig) -> dict[str, Tool]:
    """The configured tools by name.

    Raises:
        ConfigError: none is configured.
        ToolError: one cannot be set up on this machine.
    """
    tools: list[Tool] = []
    if config.search is not None:
        tools.append(LocalSearch(config.search))
    if config.python is not None:
        tools.append(PythonSandbox(config.python))
    if not tools:
        raise ConfigError("tools: no tool is configured; add a section, e.g. [tools.python] or [tools.search] with its index")
    return {tool.name: tool for tool in tools}
