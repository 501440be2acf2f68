"""Web search services: the request each takes, the header of its key, and the hits in its reply."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from arpo.tools.search.config import WebSourceConfig
from arpo.tools.search.hits import Hit


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One HTTP request to a service, without its key."""

    method: str
    url: str
    params: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None


class Provider(Protocol):
    """The protocol of a web search service; it sends nothing itself."""

    url: str
    """Default address; empty when each user has another."""
    key_variable: str | None
    """Default environment variable of the key; None when the service takes no key."""

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key."""
        ...

    def request(self, url: str, query: str, top_k: int, config: WebSourceConfig) -> SearchRequest:
        """The request for a query."""
        ...

    def read(self, reply: Any) -> Sequence[Hit]:
        """The hits of a JSON reply, best first.

        Raises:
            LookupError, TypeError, AttributeError: the reply has another form.
        """
        ...


class SearxNG:
    """A SearXNG server; its settings must list `json` under `search.formats`."""

    url = ""
    key_variable: str | None = None

    def headers(self, key: str) -> dict[str, str]:
        """Empty: the server takes no key."""
        return {}

    def request(self, url: str, query: str, top_k: int, config: WebSourceConfig) -> SearchRequest:
        """GET /search."""
        params = {"q": query, "format": "json", "language": f"{config.language}-{config.country.upper()}"}
        return SearchRequest("GET", f"{url}/search", params=params)

    def read(self, reply: Any) -> Sequence[Hit]:
        """`results`."""
        return [_hit(r, "title", "content", "url") for r in reply["results"]]


class Brave:
    """Brave Search."""

    url = "https://api.search.brave.com/res/v1/web/search"
    key_variable: str | None = "BRAVE_API_KEY"

    def headers(self, key: str) -> dict[str, str]:
        """Brave's header."""
        return {"x-subscription-token": key}

    def request(self, url: str, query: str, top_k: int, config: WebSourceConfig) -> SearchRequest:
        """GET; the service takes at most 400 characters and 50 words, and returns at most 20 results."""
        words = " ".join(query.split()[:50])[:400]
        params = {"q": words, "count": str(min(top_k, 20)), "country": config.country, "search_lang": config.language}
        return SearchRequest("GET", url, params=params)

    def read(self, reply: Any) -> Sequence[Hit]:
        """`web.results`; a reply without hits lacks `web`."""
        if reply.get("type") == "search" and "web" not in reply:
            return []
        return [_hit(r, "title", "description", "url") for r in reply["web"]["results"]]


class Serper:
    """Google through Serper."""

    url = "https://google.serper.dev/search"
    key_variable: str | None = "SERPER_API_KEY"

    def headers(self, key: str) -> dict[str, str]:
        """Serper's header."""
        return {"x-api-key": key}

    def request(self, url: str, query: str, top_k: int, config: WebSourceConfig) -> SearchRequest:
        """POST."""
        return SearchRequest("POST", url, body={"q": query, "num": top_k, "gl": config.country, "hl": config.language})

    def read(self, reply: Any) -> Sequence[Hit]:
        """`organic`."""
        return [_hit(r, "title", "snippet", "link") for r in reply["organic"]]


class Tavily:
    """Tavily."""

    url = "https://api.tavily.com/search"
    key_variable: str | None = "TAVILY_API_KEY"

    def headers(self, key: str) -> dict[str, str]:
        """A bearer token."""
        return {"authorization": f"Bearer {key}"}

    def request(self, url: str, query: str, top_k: int, config: WebSourceConfig) -> SearchRequest:
        """POST; the service returns at most 20 results."""
        return SearchRequest("POST", url, body={"query": query, "max_results": min(top_k, 20)})

    def read(self, reply: Any) -> Sequence[Hit]:
        """`results`."""
        return [_hit(r, "title", "content", "url") for r in reply["results"]]


class BrightData:
    """Bing through Bright Data, as in the papers."""

    url = "https://api.brightdata.com/request"
    key_variable: str | None = "BRIGHTDATA_API_KEY"

    def headers(self, key: str) -> dict[str, str]:
        """A bearer token."""
        return {"authorization": f"Bearer {key}"}

    def request(self, url: str, query: str, top_k: int, config: WebSourceConfig) -> SearchRequest:
        """POST of the Bing address to open."""
        language = f"{config.language}-{config.country.upper()}"
        bing = {"q": query, "mkt": language, "setLang": language, "brd_json": "1", "cc": config.country}
        body = {"zone": config.zone, "url": f"https://www.bing.com/search?{urlencode(bing)}", "format": "raw"}
        return SearchRequest("POST", url, body=body)

    def read(self, reply: Any) -> Sequence[Hit]:
        """`organic`, which a reply without hits lacks."""
        if "general" in reply and "organic" not in reply:
            return []
        return [_hit(r, "title", "description", "link") for r in reply["organic"]]


PROVIDERS: dict[str, Provider] = {
    "searxng": SearxNG(),
    "brave": Brave(),
    "serper": Serper(),
    "tavily": Tavily(),
    "brightdata": BrightData(),
}
"""`search.provider` -> the service."""


def _hit(result: Mapping[str, Any], title: str, text: str, url: str) -> Hit:
    return Hit(title=_plain(result.get(title)), text=_plain(result.get(text)), url=str(result.get(url) or ""))


def _plain(text: Any) -> str:
    """The text without the markup some services highlight words with."""
    return html.unescape(re.sub(r"</?(?:strong|b|em|mark)>", "", text)) if isinstance(text, str) else ""
