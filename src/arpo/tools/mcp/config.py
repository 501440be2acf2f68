"""Configuration of MCP servers."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from arpo.conditions import IS_SET, only_with
from arpo.config import SECRET, Config


class McpServerConfig(Config):
    """One MCP server: a program to start, or a URL."""

    short_for = "command"

    command: str | None = None
    """Program to start, which speaks MCP over its standard streams; None with a `url`."""
    args: Annotated[tuple[str, ...], only_with(command=IS_SET), SECRET] = ()
    """Arguments of the program."""
    cwd: Annotated[Path | None, only_with(command=IS_SET)] = None
    """Working folder of the program; None: the current folder."""
    env: Annotated[dict[str, str], only_with(command=IS_SET), SECRET] = Field(default_factory=dict)
    """Environment variables of the program, besides HOME, PATH and the like. Put secrets in `env_names` instead."""
    env_names: Annotated[tuple[str, ...], only_with(command=IS_SET)] = ()
    """Names of environment variables to pass on to the program, for keys."""
    url: str | None = None
    """Address of a server that speaks MCP over streamable HTTP, e.g. `http://localhost:8000/mcp`."""
    token_env: Annotated[str | None, only_with(url=IS_SET)] = None
    """Name of the environment variable whose value is sent to `url` as a bearer token; None sends no token."""
    tools: dict[str, str] = Field(default_factory=dict)
    """Tools to use: the server's name of each, and the name the model calls it by, e.g. `{"get-page" = "page"}`. Empty: all
    tools under the server's names."""
    deterministic: bool = False
    """True when the same arguments always give the same result, so that results may be cached."""
    connect_timeout_s: float = Field(default=30.0, gt=0)
    """Most seconds for the server to start, connect and list its tools."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("set one of command (a program to start) and url (a server that runs)")
        names = list(self.tools.values())
        if len(set(names)) < len(names):
            raise ValueError(f"tools = {self.tools} gives two tools the same name")
        return self
