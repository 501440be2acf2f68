"""One tool call by hand, through the executor that training uses."""

from collections.abc import Sequence

from arpo.types import ToolCall, ToolResult

ARGUMENTS = {"search": "query", "python": "code"}
"""Tool name -> the one argument it takes."""


async def call_tool(name: str, argument: str, overrides: Sequence[str] = ()) -> ToolResult:
    """The result of one uncached call; it is cut by characters as the tool's own section says, not by a policy's tokens.

    Args:
        name: A key of `ARGUMENTS`.
        argument: What the model would write between the tool's tags.
        overrides: Keys of `arpo config docs tools`, e.g. `search.index=runs/quickstart/index`.

    Raises:
        ConfigError: a key is unknown, out of range, or missing.
        ToolError: the tool cannot be set up on this machine.
    """
    from arpo.config import load_config
    from arpo.tools.build import build_tools
    from arpo.tools.config import ToolsConfig
    from arpo.tools.executor import ToolExecutor

    config = load_config(ToolsConfig, None, [f"{name}={{}}", *overrides])
    executor = ToolExecutor(build_tools(config), config.executor, cut=lambda text, _: (text, False))
    try:
        return await executor.open_session().call(ToolCall(name=name, arguments={ARGUMENTS[name]: argument}))
    finally:
        await executor.aclose()
