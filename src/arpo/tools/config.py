"""Configuration of the tools an agent has."""

from typing import Annotated

from pydantic import Field, field_validator

from arpo.cache.config import CacheConfig
from arpo.conditions import above, only_with
from arpo.config import Config
from arpo.tools.browse.config import BrowseConfig
from arpo.tools.mcp.config import McpServerConfig
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.search.config import SearchConfig


class ExecutorConfig(Config):
    """What every call of every tool is held to."""

    max_calls: int = Field(default=6, ge=1)
    """Calls one trajectory may make; a branch counts those of the path it shares."""
    max_calls_per_tool: dict[str, int] = Field(default_factory=dict)
    """Calls one trajectory may make of single tools, by name, e.g. `{search = 3}`; they count against `max_calls` too."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds of wall time one call may take, all its tries and the waits between them together, waiting for a free place not
    counted."""
    timeouts_s: dict[str, float] = Field(default_factory=dict)
    """Seconds for single tools, by name, e.g. `{python = 10.0}`; the others have `timeout_s`."""
    max_concurrency: int = Field(default=64, ge=1)
    """Calls carried out at the same time; further ones wait."""
    max_concurrency_per_tool: dict[str, int] = Field(default_factory=dict)
    """Calls of single tools carried out at the same time, by name, e.g. `{search = 8}`."""
    retries: int = Field(default=2, ge=0, le=10)
    """Further tries after a failure that may pass (connection lost, server busy), for every tool and server the same; a program
    that failed is not tried again."""
    backoff_s: Annotated[float, only_with(retries=above(0))] = Field(default=0.5, gt=0)
    """Seconds until the first further try, doubled for each one after it, less a random part of up to a half. Where a server
    says when to come again (Retry-After), that holds instead; if it is beyond the call's time limit, the call ends."""
    max_result_tokens: int = Field(default=512, ge=1)
    """Tokens of the policy's tokenizer a result may have; the rest is cut."""

    @field_validator("timeouts_s")
    @classmethod
    def _are_positive(cls, timeouts: dict[str, float]) -> dict[str, float]:
        for name, seconds in timeouts.items():
            if not seconds > 0:
                raise ValueError(f"{name} = {seconds}: a time limit must be above 0 s")
        return timeouts

    @field_validator("max_calls_per_tool", "max_concurrency_per_tool")
    @classmethod
    def _are_at_least_one(cls, limits: dict[str, int]) -> dict[str, int]:
        for name, limit in limits.items():
            if limit < 1:
                raise ValueError(f"{name} = {limit}: must be at least 1")
        return limits


class ToolsConfig(Config):
    """The tools an agent has; a tool without a section is not there."""

    executor: ExecutorConfig = ExecutorConfig()
    """Limits of every call."""
    cache: CacheConfig = CacheConfig()
    """Cache of the results of deterministic tools."""
    python: PythonSandboxConfig | None = None
    """The `python` tool; None leaves it out."""
    search: SearchConfig | None = Field(default=None, discriminator="type")
    """The `search` tool; None leaves it out."""
    browse: BrowseConfig | None = None
    """The `browse` tool; None leaves it out."""
    mcp: dict[str, McpServerConfig] = Field(default_factory=dict)
    """MCP servers by a name of your choice, e.g. `[tools.mcp.files]` with `command = "mcp-server-files"`; their tools join the
    others."""

    @field_validator("search", mode="before")
    @classmethod
    def _name_type(cls, search: object) -> object:
        return {"type": "local", **search} if isinstance(search, dict) else search
