"""The papers' deep search: searches, fetches every page and cuts it to the text around its snippet."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from arpo.clients.http import HttpError
from arpo.tools.browse.passages import Span, find_snippet, widen
from arpo.tools.browse.reader import PageReader
from arpo.tools.search.config import DeepSearchConfig, ResultConfig
from arpo.tools.search.hits import Hit
from arpo.tools.search.tool import SearchSource, SearchTool
from arpo.tools.version import make_version

_log = logging.getLogger(__name__)


class PageSource:
    """The pages that another source finds, each cut to the text around its snippet.

    A page that cannot be read keeps its snippet, and its text says so.

    Args:
        config: the settings.
        source: source of the snippets.

    Raises:
        ToolError: the extra `web` is not installed.
    """

    is_local = False

    def __init__(self, config: DeepSearchConfig, source: SearchSource) -> None:
        self._config = config
        self._source = source
        self._reader = PageReader(config.fetch, "search.type = 'deep'")
        self.is_cacheable = config.cacheable
        limits = (config.top_k, config.context_chars, config.start_chars, config.fetch.max_pdf_pages, config.format)
        self.version = make_version("deep-2", source.version, *limits)

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` pages, in the source's order."""
        return await asyncio.gather(*(self._read(hit) for hit in await self._source.find(query, top_k)))

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()

    async def _read(self, hit: Hit) -> Hit:
        """The hit with the text of its page instead of its snippet."""
        try:
            page = await self._reader.read(hit.url)
        except HttpError as error:
            _log.info("deep search: %s", error)
            return replace(hit, text=f"{hit.text} (The page cannot be read; this is its snippet.)")
        return await asyncio.to_thread(self._cut, hit, page.text)

    def _cut(self, hit: Hit, text: str) -> Hit:
        snippet = find_snippet(text, hit.text)
        part = widen(text, snippet or Span(0, 0), self._config.context_chars if snippet else self._config.start_chars)
        return replace(hit, text=text[part.start : part.end], is_truncated=part.end - part.start < len(text))


class DeepSearch(SearchTool):
    """Returns the text of the pages found for `query`; `SummarizedSearch` condenses it.

    Args:
        config: the settings.
        source: source of the snippets.

    Raises:
        ToolError: the extra `web` is not installed.
    """

    def __init__(self, config: DeepSearchConfig, source: SearchSource) -> None:
        pages = PageSource(config, source)
        super().__init__(pages, ResultConfig(top_k=config.top_k, format=config.format, max_snippet_chars=10**9))
        self.version = pages.version
