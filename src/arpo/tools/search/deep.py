"""The papers' deep search: search, fetch every page found, keep what surrounds its snippet."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from arpo.clients.http import HttpError
from arpo.tools.browse.passages import Span, find_snippet, widen
from arpo.tools.browse.reader import PageReader
from arpo.tools.failures import http_failure
from arpo.tools.search.config import DeepSearchConfig, ResultConfig
from arpo.tools.search.hits import Hit, render
from arpo.tools.search.tool import EMPTY_QUERY, QUERY_SCHEMA, SEARCH_FAILED, SearchSource, read_query
from arpo.tools.version import make_version
from arpo.types import ToolResult

_log = logging.getLogger(__name__)


class DeepSearch:
    """Returns what the pages found for `query` say; `SummarizedSearch` condenses it.

    A page that cannot be read is replaced by its snippet, and its document says so.

    Args:
        config: the settings.
        source: what is searched.

    Raises:
        ToolError: the extra `web` is not installed.
    """

    name = "search"
    is_local = False
    schema: Mapping[str, Any] = QUERY_SCHEMA

    def __init__(self, config: DeepSearchConfig, source: SearchSource) -> None:
        self._config = config
        self._source = source
        self._reader = PageReader(config.fetch, "search.type = 'deep'")
        self.is_cacheable = config.cacheable
        limits = (config.top_k, config.context_chars, config.start_chars, config.fetch.max_pdf_pages, config.format)
        self.version = make_version("deep-2", source.version, *limits)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """What the pages found for `arguments["query"]` say."""
        query = read_query(arguments)
        if query is None:
            return EMPTY_QUERY
        try:
            hits = await self._source.find(query, self._config.top_k)
            return render(await asyncio.gather(*(self._read(hit) for hit in hits)), self._form)
        except HttpError as error:
            return http_failure(error, SEARCH_FAILED)

    def fork(self) -> Self:
        """The tool itself: it has no state."""
        return self

    async def aclose(self) -> None:
        """Close the connections."""
        await self._source.aclose()

    @property
    def _form(self) -> ResultConfig:
        """The form of the documents; nothing is cut but by `context_chars` and `start_chars`."""
        return ResultConfig(top_k=self._config.top_k, format=self._config.format, max_snippet_chars=10**9)

    async def _read(self, hit: Hit) -> Hit:
        """The hit with what its page says in place of its snippet."""
        try:
            page = await self._reader.read(hit.url)
        except HttpError as error:
            _log.info("deep search: %s", error)
            return replace(hit, text=f"{hit.text} (The page cannot be read; this is its snippet.)")
        return await asyncio.to_thread(self._keep, hit, page.text)

    def _keep(self, hit: Hit, text: str) -> Hit:
        found = find_snippet(text, hit.text)
        part = widen(text, found, self._config.context_chars) if found else widen(text, Span(0, 0), self._config.start_chars)
        return replace(hit, text=text[part.start : part.end], is_truncated=part.end - part.start < len(text))
