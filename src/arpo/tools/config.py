"""Configuration of the tools an agent has."""

from pydantic import Field, field_validator

from arpo.cache.config import CacheConfig
from arpo.config import Config
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.search.config import SearchConfig


class ExecutorConfig(Config):
    """What every call of every tool is held to."""

    max_calls: int = Field(default=6, ge=1)
    """Calls one trajectory may make; a branch counts those of the path it shares."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds of wall time one call may take, waiting for a free place not counted."""
    timeouts_s: dict[str, float] = Field(default_factory=dict)
    """Seconds for single tools, by name, e.g. `{python = 10.0}`; the others have `timeout_s`."""
    max_concurrency: int = Field(default=64, ge=1)
    """Calls carried out at the same time; further ones wait."""
    max_result_tokens: int = Field(default=512, ge=1)
    """Tokens of the policy's tokenizer a result may have; the rest is cut."""

    @field_validator("timeouts_s")
    @classmethod
    def _are_positive(cls, timeouts: dict[str, float]) -> dict[str, float]:
        for name, seconds in timeouts.items():
            if not seconds > 0:
                raise ValueError(f"{name} = {seconds}: a time limit must be above 0 s")
        return timeouts


class ToolsConfig(Config):
    """The tools an agent has; a tool without a section is not there."""

    executor: ExecutorConfig = ExecutorConfig()
    """Limits of every call."""
    cache: CacheConfig = CacheConfig()
    """Cache of the results of deterministic tools."""
    python: PythonSandboxConfig | None = None
    """The `python` tool; None leaves it out."""
    search: SearchConfig | None = None
    """The `search` tool; None leaves it out."""
