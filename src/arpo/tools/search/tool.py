"""The `search` tool over any source."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from arpo.clients.http import HttpError
from arpo.tools.base import StatelessTool
from arpo.tools.failures import http_failure
from arpo.tools.search.config import ResultConfig
from arpo.tools.search.hits import Hit, render
from arpo.tools.version import make_version
from arpo.types import ToolResult

QUERY_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "words to look for"}},
    "required": ["query"],
}
SEARCH_FAILED = "Error: the search failed"
EMPTY_QUERY = ToolResult(content="Error: the search query is empty; write words to look for.", status="error")


class SearchSource(Protocol):
    """A search engine. Stateless."""

    version: str
    """Changes whenever the same query may return other hits."""
    is_local: bool
    """True when it needs no network."""
    is_cacheable: bool
    """True when the cache may answer an equal query."""

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` hits, best first.

        Raises:
            HttpError: a remote source failed.
        """
        ...

    async def aclose(self) -> None:
        """Close connections and threads."""
        ...


class SearchTool(StatelessTool):
    """Returns the hits of a source for `query`, in the configured format."""

    name = "search"
    schema: Mapping[str, Any] = QUERY_SCHEMA

    def __init__(self, source: SearchSource, config: ResultConfig) -> None:
        self._source = source
        self._config = config
        self.is_local = source.is_local
        self.is_cacheable = source.is_cacheable
        self.version = make_version("search-3", source.version, config.top_k, config.max_snippet_chars, config.format)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """The best pages for `arguments["query"]`."""
        query = read_query(arguments)
        if query is None:
            return EMPTY_QUERY
        try:
            return render(await self._source.find(query, self._config.top_k), self._config)
        except HttpError as error:
            return http_failure(error, SEARCH_FAILED)

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


def read_query(arguments: Mapping[str, Any]) -> str | None:
    """The query of a call, with lone surrogates replaced; None when it holds no words."""
    query = arguments.get("query")
    return query.encode("utf-8", "replace").decode() if isinstance(query, str) and query.strip() else None
