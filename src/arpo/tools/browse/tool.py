"""The `browse` tool: reads a page of the web."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from arpo.clients.http import HttpError
from arpo.tools.base import StatelessTool
from arpo.tools.browse.config import BrowseConfig
from arpo.tools.browse.extract import PageText
from arpo.tools.browse.passages import Span, cut_pages, find_snippet, widen
from arpo.tools.browse.reader import PageReader
from arpo.tools.browse.summary import Summarizer
from arpo.tools.failures import http_failure
from arpo.tools.version import make_version
from arpo.types import ToolResult


class BrowseTool(StatelessTool):
    """Returns the part of a page around a snippet, its parts by number, or a summary for the question.

    Raises:
        ToolError: the extra `web` is not installed.
        ConfigError: the summarising model's key is not in the environment.
    """

    name = "browse"

    def __init__(self, config: BrowseConfig) -> None:
        self._config = config
        self._reader = PageReader(config.fetch, self.name)
        self._summarizer = Summarizer(config.summary, "tools.browse.summary") if config.summary is not None else None
        self.schema: Mapping[str, Any] = _schema(with_summary=config.summary is not None)
        self.is_cacheable = config.cacheable
        self.needs_question = config.summary is not None
        limits = (config.page_chars, config.max_pages, config.max_summary_chars, config.fetch.max_pdf_pages)
        self.version = make_version("browse-1", *limits, self._summarizer.version if self._summarizer else "")

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """The page at `arguments["url"]`, or the requested part of it."""
        try:
            request = _read_arguments(arguments, self._config.max_pages)
            page = await self._reader.read(request["url"])
            if self._summarizer is not None:
                return await self._summarize(self._summarizer, page, request)
            return await asyncio.to_thread(self._show, page, request)
        except HttpError as error:
            return http_failure(error)
        except ValueError as error:
            return ToolResult(content=f"Error: {error}", status="error")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._summarizer is not None:
            await self._summarizer.aclose()

    async def _summarize(self, summarizer: Summarizer, page: PageText, request: Mapping[str, Any]) -> ToolResult:
        if not request["question"]:
            raise ValueError("give the question that the page is to answer, as `question`")
        snippet = await asyncio.to_thread(find_snippet, page.text, request["snippet"])
        part = widen(page.text, snippet or Span(0, 0), self._config.max_summary_chars)
        document = f"Document 1: {page.title}\n{page.text[part.start : part.end]}"
        reply = await summarizer.summarize(request["question"], "", document)
        is_truncated = reply.is_truncated or part.end - part.start < len(page.text)
        return ToolResult(content=f"{_head(page, request)}\n\n{reply.text.strip()}", truncated=is_truncated)

    def _show(self, page: PageText, request: Mapping[str, Any]) -> ToolResult:
        head, pages = _head(page, request), cut_pages(page.text, self._config.page_chars)
        first, last = request["pages"]
        if request["snippet"]:
            snippet = find_snippet(page.text, request["snippet"])
            if snippet is not None:
                part = widen(page.text, snippet, self._config.page_chars)
                text = page.text[part.start : part.end]
                return ToolResult(content=f"{head}\nAround the snippet\n\n{text}", truncated=len(text) < len(page.text))
            head += "\nThe snippet is not in it."
        if first > len(pages):
            raise ValueError(f"pages: there is no page {first}; it has {len(pages)}")
        last = min(last, len(pages))
        shown = f"Page {first}" if first == last else f"Pages {first}-{last}"
        text = page.text[pages[first - 1].start : pages[last - 1].end].strip()
        return ToolResult(content=f"{head}\n{shown} of {len(pages)}\n\n{text}", truncated=last - first + 1 < len(pages))


def _head(page: PageText, request: Mapping[str, Any]) -> str:
    return f"{page.title}\n{request['url']}" if page.title else request["url"]


def _schema(*, with_summary: bool) -> dict[str, Any]:
    properties: dict[str, dict[str, Any]] = {
        "url": {"type": "string", "description": "address of the page"},
        "snippet": {"type": "string", "description": "words of the part to read, such as a search result's text"},
    }
    if with_summary:
        properties["question"] = {"type": "string", "description": "what the page is to answer, if not the task's question"}
    else:
        properties["pages"] = {
            "type": ["string", "integer"],
            "description": "number of the part to read, or a range such as 2-3",
        }
    return {"type": "object", "properties": properties, "required": ["url"]}


def _read_arguments(arguments: Mapping[str, Any], max_pages: int) -> dict[str, Any]:
    """The arguments of a call with defaults.

    Raises:
        ValueError: an argument breaks the schema.
    """
    texts: dict[str, Any] = {}
    for name in ("url", "snippet", "question"):
        value = arguments.get(name) or ""
        if not isinstance(value, str):
            raise ValueError(f"{name}: must be text")
        texts[name] = value.encode("utf-8", "replace").decode().strip()
    if not texts["url"]:
        raise ValueError("url: give the address of the page")
    pages = str(arguments.get("pages") or "1").replace(" ", "")
    match = re.fullmatch(r"([1-9]\d{0,5})(?:-([1-9]\d{0,5}))?", pages, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last < first + max_pages:
        raise ValueError(
            f"pages = {pages[:20]!r}: give a number, or a range of at most {max_pages} pages such as 2-{1 + max_pages}"
        )
    return {**texts, "pages": (first, last)}
