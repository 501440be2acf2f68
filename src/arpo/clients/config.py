"""Configuration of the clients of remote services."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from arpo.config import SECRET, SECRET_ERROR, Config


def _check_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise PydanticCustomError(
            SECRET_ERROR,
            "must be the name of an environment variable, such as SEARCH_API_KEY; a configuration never holds the key itself",
        )
    return name


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PydanticCustomError(
            SECRET_ERROR, "must be an address without user, password or query; keys come from environment variables"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    return url.rstrip("/")


KeyVariable = Annotated[str, AfterValidator(_check_variable), SECRET]
"""The name of the environment variable that holds a key."""
ServiceUrl = Annotated[str, AfterValidator(_check_url), SECRET]
"""An http or https address without a secret; a trailing slash is removed."""


class HttpConfig(Config):
    """Limits of the requests to a remote service."""

    timeout_s: float = Field(default=20.0, gt=0)
    """Most seconds of one attempt, from connecting to the last byte."""
    requests_per_s: float | None = Field(default=None, gt=0)
    """Most requests per second that one process begins, evenly spaced; None sets no limit."""
    max_body_mb: float = Field(default=8.0, gt=0)
    """Most MiB of a decompressed reply; a longer reply is an error."""


class RetryingHttpConfig(HttpConfig):
    """Limits and retries of the requests to a remote service; tools are retried by `tools.executor.retries` instead."""

    max_retries: int = Field(default=3, ge=0, le=10)
    """Most retries after a transient error: no connection, connection lost, timeout, status 408, 409, 429 or 5xx. A retry
    waits 0.5 s, 1 s, 2 s ... 8 s, less a random part of up to a quarter, or as long as the server asks (Retry-After). The
    request fails when the server asks for more than two minutes."""


class ServedModelConfig(Config):
    """A model behind an OpenAI-compatible server."""

    sets: ClassVar[frozenset[str]] = frozenset({"model", "messages", "max_tokens", "temperature", "seed", "n", "stream"})
    """Fields of a request that have keys of their own, or must not be set."""

    base_url: ServiceUrl = Field(examples=["http://localhost:8000/v1"])
    """Address up to and including the version, e.g. `http://localhost:8000/v1`."""
    model: str = Field(examples=["Qwen/Qwen3-8B"])
    """The model's name on that server."""
    api_key_env: KeyVariable | None = None
    """Name of the environment variable that holds the key; None sends no key."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, in the server's names, e.g. `{chat_template_kwargs = {enable_thinking = false}}`, or
    `{top_k = -1, repetition_penalty = 1.0}` for a vLLM server that takes other defaults from generation_config.json."""
    rename: dict[Literal["max_tokens", "temperature", "top_p", "seed", "stop"], str] = Field(default_factory=dict)
    """Other names of fields, for servers that refuse these: `{max_tokens = "max_completion_tokens", temperature = ""}`; an
    empty name leaves the field out, so that the server's own default holds."""
    http: HttpConfig = HttpConfig(timeout_s=120.0)
    """Limits of the requests."""

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        for name in self.extra_body:
            if name in self.sets:
                raise ValueError(f"extra_body.{name}: every request sets this field already; leave it out")
        return self


class ChatConfig(ServedModelConfig):
    """A chat model behind an OpenAI-compatible server."""

    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    max_tokens: int = Field(default=1024, ge=1)
    """Most tokens of one reply."""
    seed: int | None = None
    """Seed of each request, for servers that take one; None sends no seed."""
