"""HTTP client for services: limits time, size and rate, hides keys, and never retries."""

import asyncio
import functools
import json
import math
import os
import re
import ssl
import time
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2

from arpo.clients.concurrency import PerLoop
from arpo.clients.config import HttpConfig
from arpo.clients.keys import ApiKey
from arpo.errors import ArpoError, ConfigError

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
_PROTOCOL_HEADERS = frozenset({"host", "accept", "content-type", "content-length", "connection"})
_COMPRESSION_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_EXCERPT_CHARS = 200
LOOPBACK: dict[str, None] = dict.fromkeys(("all://*localhost", "all://127.0.0.0/8", "all://[::1]", "all://0.0.0.0"))
"""Services on this machine, which are reached without the proxy that the environment names."""


class HttpError(ArpoError, RuntimeError):
    """A request to a remote service failed."""

    def __init__(
        self, message: str, *, status: int | None = None, is_transient: bool = False, retry_after_s: float | None = None
    ):
        super().__init__(message)
        self.status = status
        """HTTP status; None when the reply did not arrive whole."""
        self.is_transient = is_transient
        """True when the same request may succeed later."""
        self.retry_after_s = retry_after_s
        """Seconds the server asks to wait; None when it does not ask."""


class ServiceConnections(httpx2.AsyncClient):
    """Connections to one service, with limits.

    Replies are read whole. Redirects are not followed, so that a key never leaves for another host. The key is sent in
    `headers` only and is removed from every reply. A request carries `headers` and what the protocol needs, nothing that a
    library or the environment adds.

    Args:
        service: name of the service in errors.
        config: the limits.
        headers: headers of each request.
        key: the secret in `headers`; None when they hold no secret.
    """

    def __init__(self, service: str, config: HttpConfig, headers: Mapping[str, str], key: ApiKey | None) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        super().__init__(timeout=None, follow_redirects=False, limits=limits, verify=tls(), mounts=LOOPBACK)
        self._service = service
        self._config = config
        self._headers_sent = {"user-agent": "arpo", "accept-encoding": "gzip", **headers}
        self._key = key
        self._next_start = 0.0

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """Send a request and read its whole reply.

        Raises:
            httpx2.HTTPError: the reply did not arrive whole and in time.
            HttpError: the reply is too long, or compressed in a way that the request did not allow.
        """
        for name in set(request.headers) - _PROTOCOL_HEADERS:
            del request.headers[name]
        request.headers.update(self._headers_sent)
        await self._wait_for_turn()
        try:
            async with asyncio.timeout(self._config.timeout_s):
                response = await super().send(request, stream=True)
                try:
                    name = request_name(self._service, request.method, str(request.url))
                    body = await read_body(response, int(self._config.max_body_mb * 2**20), name)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx2.ReadTimeout(f"no whole reply within {self._config.timeout_s:g} s", request=request) from None
        if self._key is not None:
            body = self._key.redact(body)
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _COMPRESSION_HEADERS]
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)

    async def _wait_for_turn(self) -> None:
        if self._config.requests_per_s is None:
            return
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + 1 / self._config.requests_per_s
        await asyncio.sleep(start - now)


class HttpClient:
    """Sends JSON requests to one service, without retries: the caller decides on them.

    Args:
        service: name of the service in errors.
        config: the limits.
        headers: headers of each request.
        key: the secret in `headers`; None when they hold no secret.

    Raises:
        ConfigError: as `require_environment`.

    Example:
        client = HttpClient("retriever", HttpConfig())
        await client.request_json("POST", "http://localhost:8000/retrieve", body={"queries": ["x"]})
    """

    def __init__(
        self, service: str, config: HttpConfig, headers: Mapping[str, str] | None = None, key: ApiKey | None = None
    ) -> None:
        require_environment()
        self._service = service
        self._key = key
        self._connections = PerLoop(lambda: ServiceConnections(service, config, headers or {}, key))

    async def request_json(self, method: str, url: str, *, params: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """The JSON value of the reply; `body` is sent as JSON, None sends no body.

        Raises:
            HttpError: the request failed, or the reply is not JSON.
        """
        name = request_name(self._service, method, url)
        try:
            response = await self._connections.get().request(method, url, params=params, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise connection_error(name, error, self._key) from None
        return read_json(name, response)

    async def aclose(self) -> None:
        """Close the connections; the next request opens new ones."""
        connections = self._connections.take()
        if connections is not None:
            await connections.aclose()


def request_name(service: str, method: str, url: str) -> str:
    """The name of a request in errors: the service and the address without its query."""
    return f"{service}: {method} {url.split('?')[0]}"


def connection_error(name: str, error: BaseException, key: ApiKey | None) -> HttpError:
    """The error of a request without a reply; its message does not show `key`."""
    message = describe(error)
    if key is not None:
        message = key.redact(message.encode("utf-8", "replace")).decode()
    return HttpError(f"{name}: {message}", is_transient=is_transient(error))


def read_json(name: str, response: httpx2.Response) -> Any:
    """The JSON value of a reply that has been read.

    Raises:
        HttpError: the status is not a success, or the reply is not JSON.
    """
    if not response.is_success:
        raise HttpError(
            f"{name}: status {response.status_code}: {excerpt(response.content)}",
            status=response.status_code,
            is_transient=response.status_code in TRANSIENT,
            retry_after_s=read_retry_after(response.headers.get("retry-after")),
        )
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        message = f"{name}: the reply is not JSON: {excerpt(response.content)}"
        raise HttpError(message, status=response.status_code) from None


@functools.cache
def tls() -> ssl.SSLContext:
    """The trusted certificates, read once: reading them takes longer than a request.

    Raises:
        ConfigError: SSL_CERT_FILE or SSL_CERT_DIR names nothing that holds certificates.
    """
    folder = os.environ.get("SSL_CERT_DIR")
    if folder and not Path(folder).is_dir():
        raise ConfigError(f"SSL_CERT_DIR = {folder!r}: there is no such folder; name one with certificates, or unset it")
    try:
        return httpx2.create_ssl_context()
    except OSError as error:  # ssl.SSLError too
        file = os.environ.get("SSL_CERT_FILE")
        if not file:
            raise
        raise ConfigError(
            f"SSL_CERT_FILE = {file!r}: no certificates can be read from it ({error.strerror or error}); name a file in "
            "the PEM format, or unset it"
        ) from None


def require_environment() -> None:
    """Check the environment variables that requests to services go by: proxies and certificates.

    Raises:
        ConfigError: one has a value that cannot be used; the message names it.
    """
    tls()
    for variable in (name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())):
        address = os.environ.get(variable, "").strip()
        if not address:
            continue
        shown = re.sub(r"//[^/@]*@", "//***@", address)
        url = address if "://" in address else f"http://{address}"
        try:
            httpx2.AsyncHTTPTransport(proxy=url, verify=tls())
            is_address = bool(httpx2.URL(url).host)
        except ImportError:
            raise ConfigError(
                f"{variable} = {shown!r}: a SOCKS proxy needs the package socksio; pip install socksio, or unset the variable"
            ) from None
        except (ValueError, httpx2.InvalidURL):
            is_address = False
        if not is_address:
            raise ConfigError(
                f"{variable} = {shown!r}: not the address of a proxy; write http://HOST:PORT, https://HOST:PORT or "
                "socks5://HOST:PORT, or unset the variable"
            )


async def read_body(response: httpx2.Response, max_bytes: int, name: str) -> bytes:
    """The decompressed body, read piece by piece and never beyond `max_bytes`; errors show `name`.

    Raises:
        HttpError: the body is longer, or compressed with anything but gzip, the only encoding a request may accept.
        httpx2.HTTPError: the connection broke.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise HttpError(f"{name}: the reply is compressed as {encoding[:20]!r}; only gzip is accepted")
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    async for piece in response.aiter_raw():
        try:
            body += decompressor.decompress(piece, max_bytes - len(body) + 1) if decompressor else piece
        except zlib.error as error:
            raise HttpError(f"{name}: the compressed reply is damaged ({error})") from None
        if len(body) > max_bytes:
            raise HttpError(f"{name}: the reply is longer than {max_bytes / 2**20:g} MiB")
    if decompressor and body and not decompressor.eof:
        raise httpx2.RemoteProtocolError("the compressed reply breaks off")
    return bytes(body)


def is_transient(error: BaseException) -> bool:
    """True when a request that failed with this error may succeed when it is sent again."""
    return isinstance(error, httpx2.NetworkError | httpx2.TimeoutException | httpx2.RemoteProtocolError | httpx2.ProxyError)


def describe(error: BaseException) -> str:
    """The type and message of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def read_retry_after(header: str | None) -> float | None:
    """Seconds a Retry-After header asks for, by a number or a date; None when it is missing or unreadable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def excerpt(reply: bytes) -> str:
    """The start of a reply, in one line, for errors."""
    text = " ".join(reply[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace").split())
    return text[:_EXCERPT_CHARS] + ("..." if len(text) > _EXCERPT_CHARS else "") or "(empty)"
