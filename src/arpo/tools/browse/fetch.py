"""Fetches pages from the public internet, safe against hostile addresses, servers and redirects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from arpo.clients.concurrency import ConcurrencyLimit
from arpo.clients.http import TRANSIENT, HttpError, describe, is_transient, read_body, read_retry_after, tls
from arpo.tools.browse.addresses import resolve
from arpo.tools.browse.config import FetchConfig

_HEADERS = {
    "accept": "text/html,application/xhtml+xml,application/pdf,text/plain;q=0.9,*/*;q=0.1",
    "accept-encoding": "gzip",
    "accept-language": "en,*;q=0.5",
}
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched page."""

    url: str
    """Address after all redirects."""
    media_type: str
    """Media type in lower case, without parameters; empty when the server names none."""
    charset: str
    """Encoding that the server names; empty when it names none."""
    body: bytes
    """Decompressed body."""


class Fetcher:
    """Fetches pages over http and https from the public internet and from hosts allowed by name.

    Each hop resolves its host once and connects to the checked address; certificates are verified against the name.
    Connections are not reused. Proxies of the environment are not used, as they would resolve names again. A request carries
    no cookies, no referrer and no keys.

    Raises:
        ConfigError: as `tls`.
    """

    def __init__(self, config: FetchConfig) -> None:
        tls()
        self._config = config
        self._limit = ConcurrencyLimit(config.max_concurrency)

    async def fetch(self, url: str) -> Fetched:
        """The page at an address.

        Raises:
            HttpError: the address is invalid or refused; the server failed, was too slow, or sent too much.
        """
        async with self._limit.get():
            try:
                async with asyncio.timeout(self._config.timeout_s):
                    return await self._follow(url)
            except TimeoutError:
                message = f"{shorten(url)}: no whole page within {self._config.timeout_s:g} s"
                raise HttpError(message, is_transient=True) from None

    async def _follow(self, url: str) -> Fetched:
        current = _parse(url)
        limits = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(verify=tls(), trust_env=False, timeout=None, limits=limits) as client:
            for _ in range(self._config.max_redirects + 1):
                page = await self._get(client, current)
                if isinstance(page, Fetched):
                    return page
                current = page
        raise HttpError(f"{shorten(url)}: more than {self._config.max_redirects} redirects")

    async def _get(self, client: httpx2.AsyncClient, url: httpx2.URL) -> Fetched | httpx2.URL:
        """The page, or the address of a redirect."""
        name = shorten(str(url))
        host = url.raw_host.decode("ascii")
        addresses = await resolve(host, url.port or _PORTS[url.scheme], self._config.allowed_hosts)
        headers = {**_HEADERS, "user-agent": self._config.user_agent, "host": url.netloc.decode("ascii")}
        extensions = {"sni_hostname": host} if url.scheme == "https" else {}
        targets = [url.copy_with(host=str(address), fragment=None) for address in addresses]
        try:
            async with _connected(client, targets, headers, extensions) as response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    return _parse(response.headers["location"], url)
                if not response.is_success:
                    status, wait_s = response.status_code, read_retry_after(response.headers.get("retry-after"))
                    transient = status in TRANSIENT
                    raise HttpError(f"{name}: status {status}", status=status, is_transient=transient, retry_after_s=wait_s)
                body = await read_body(response, int(self._config.max_body_mb * 2**20), name)
        except httpx2.HTTPError as error:
            raise HttpError(f"{name}: {describe(error)}", is_transient=is_transient(error)) from None
        media_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
        return Fetched(str(url), media_type, response.charset_encoding or "", body)


@asynccontextmanager
async def _connected(
    client: httpx2.AsyncClient, targets: list[httpx2.URL], headers: dict[str, str], extensions: dict[str, str]
) -> AsyncIterator[httpx2.Response]:
    """The response of the first address of a host that accepts a connection."""
    for i, target in enumerate(targets):
        request = client.build_request("GET", target, headers=headers, extensions=extensions)
        try:
            response = await client.send(request, stream=True)
        except httpx2.ConnectError:
            if i == len(targets) - 1:
                raise
            continue
        try:
            yield response
        finally:
            await response.aclose()
        return


def shorten(url: str) -> str:
    """An address as messages show it."""
    return url if len(url) <= 200 else url[:200] + "..."


def _parse(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """The address `text` names, seen from `base`.

    Raises:
        HttpError: it is none that may be fetched.
    """
    try:
        url = base.join(text) if base is not None else httpx2.URL(text.strip())
    except (httpx2.InvalidURL, ValueError):
        raise HttpError(f"{shorten(text)!r}: not an address of a page") from None
    if url.scheme not in _PORTS or not url.host:
        raise HttpError(f"{shorten(text)!r}: not an address of a page; it must begin with http:// or https://")
    if url.userinfo:
        raise HttpError("an address with a user name or password is refused")
    return url
