"""Configuration of an agent's tools."""

from typing import Annotated, Any, cast

from pydantic import Field, field_validator, model_validator

from arpo.cache.config import CacheConfig
from arpo.conditions import above, only_with
from arpo.config import Config
from arpo.function_name import FunctionKey, FunctionName, FunctionText
from arpo.tools.browse.config import BrowseConfig
from arpo.tools.mcp.config import McpServerConfig
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.search.config import SearchConfig

AtLeastOne = Annotated[int, Field(ge=1)]


class ExecutorConfig(Config):
    """Limits of every tool call."""

    max_calls: int = Field(default=6, ge=1)
    """Most calls of one trajectory; a branch counts the calls of the path it shares."""
    max_calls_per_tool: dict[str, AtLeastOne] = Field(default_factory=dict)
    """Most calls of one trajectory by tool, e.g. `{search = 3}`; they count against `max_calls` too."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Most seconds of wall time of one call, with its retries and the waits between them, without the wait for a free slot."""
    timeouts_s: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Most seconds by tool, e.g. `{python = 10.0}`; tools that are not named have `timeout_s`."""
    max_concurrency: int = Field(default=64, ge=1)
    """Most calls at the same time; further calls wait."""
    max_concurrency_per_tool: dict[str, AtLeastOne] = Field(default_factory=dict)
    """Most calls at the same time by tool, e.g. `{search = 8}`."""
    retries: int = Field(default=2, ge=0, le=10)
    """Most retries after a transient failure (connection lost, server busy), for every tool and server; a program that failed
    is not run again."""
    backoff_s: Annotated[float, only_with(retries=above(0))] = Field(default=0.5, gt=0)
    """Seconds until the first retry, doubled for each further one, less a random part of up to a half. A server's Retry-After
    replaces it; when that exceeds the call's time limit, the call ends."""
    max_result_tokens: int = Field(default=512, ge=1)
    """Most tokens of a result as the policy reads it, escapes included; the rest is cut."""


class ToolsConfig(Config):
    """An agent's tools; a tool without a section is absent."""

    executor: ExecutorConfig = ExecutorConfig()
    """Limits of every call."""
    cache: CacheConfig = CacheConfig()
    """Cache of the results of deterministic tools."""
    python: PythonSandboxConfig | None = None
    """The `python` tool; None: absent."""
    search: SearchConfig | None = Field(default=None, discriminator="type")
    """The `search` tool; None: absent."""
    browse: BrowseConfig | None = None
    """The `browse` tool; None: absent."""
    functions: Annotated[dict[str, FunctionText], FunctionKey()] = Field(default_factory=dict)
    """Python functions of your own by the tool's name, `{calc = "my_tools.py:calc"}` or `"package.module:calc"`, see
    docs/functions.md; hints and docstring make the schema. The path is relative to this file, on the command line to the
    working directory."""
    mcp: dict[str, McpServerConfig] = Field(default_factory=dict)
    """MCP servers by a name of your choice, e.g. `[tools.mcp.files]` with `command = "mcp-server-files"`; the agent gets their
    tools too."""

    @model_validator(mode="before")
    @classmethod
    def _recognize_functions(cls, data: object) -> object:
        given = cast(dict[str, Any], data) if isinstance(data, dict) else {}
        for name in given.keys() - cls.model_fields.keys():
            if isinstance(given[name], str) and _names_function(given[name]):
                raise ValueError(f"{name} = {given[name]!r}: a function of your own stands in the section functions; write "
                                 f"functions.{name} = {given[name]!r}")  # fmt: skip
        return data

    @field_validator("search", mode="before")
    @classmethod
    def _name_type(cls, search: object) -> object:
        return {"type": "local", **search} if isinstance(search, dict) else search


def _names_function(text: str) -> bool:
    try:
        FunctionName.parse(text)
    except ValueError:
        return False
    return True
