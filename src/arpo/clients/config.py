"""Configuration of the clients of remote services."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from arpo.config import SECRET_ERROR, Config


def _check_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise PydanticCustomError(
            SECRET_ERROR,
            "must be the name of an environment variable, such as SEARCH_API_KEY; the key itself stands in no configuration",
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


KeyVariable = Annotated[str, AfterValidator(_check_variable)]
"""The name of the environment variable that holds a key."""
ServiceUrl = Annotated[str, AfterValidator(_check_url)]
"""An http or https address that holds no secret; a slash at its end is dropped."""


class HttpConfig(Config):
    """How a remote service is called."""

    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds one attempt may take, from connecting to the last byte."""
    requests_per_s: float | None = Field(default=None, gt=0)
    """Requests one process begins per second, evenly spaced; None sets no limit."""
    max_body_mb: float = Field(default=8.0, gt=0)
    """MiB a reply may have, unpacked; a longer one is an error."""


class RetryingHttpConfig(HttpConfig):
    """How a remote service is called where nothing else retries; for a tool `tools.executor.retries` does."""

    max_retries: int = Field(default=3, ge=0, le=10)
    """Further attempts after an error that may pass: no connection, connection lost, timeout, status 408, 409, 429 or 5xx. They
    wait 0.5 s, 1 s, 2 s ... 8 s, less a random part of up to a quarter, or as long as the server asks (Retry-After); a server
    that asks for more than two minutes ends the request."""


class ServedModelConfig(Config):
    """A model behind an OpenAI-compatible server."""

    base_url: ServiceUrl
    """Address up to the version, e.g. `http://localhost:8000/v1`."""
    model: str
    """The model's name on that server."""
    api_key_env: KeyVariable | None = None
    """Name of the environment variable that holds the key; None sends none."""
    http: HttpConfig = HttpConfig(timeout_s=120.0)
    """How the server is called."""


class ChatConfig(ServedModelConfig):
    """A chat model behind an OpenAI-compatible server."""

    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens one reply may have."""
    seed: int | None = None
    """Seed of each request, for servers that know one; None sends none."""
