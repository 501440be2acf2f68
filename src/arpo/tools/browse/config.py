"""Configuration of the browse tool."""

from typing import Annotated

from pydantic import Field

from arpo.clients.config import ChatConfig
from arpo.conditions import IS_SET, only_with
from arpo.config import Config


class FetchConfig(Config):
    """How pages of the web are fetched."""

    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds one page may take, redirects included."""
    max_body_mb: float = Field(default=8.0, gt=0)
    """MiB a page may have, unpacked; a longer one is an error."""
    max_redirects: int = Field(default=5, ge=0)
    """Redirects followed; one more is an error."""
    extract_s: float = Field(default=10.0, gt=0)
    """Seconds the extraction of one page's text may take."""
    max_pdf_pages: int = Field(default=100, ge=1)
    """Pages of a PDF that are read."""
    max_concurrency: int = Field(default=10, ge=1)
    """Pages fetched at the same time; further ones wait."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that may stand for private, loopback and link-local addresses, e.g. `["intranet.example", "localhost"]`; any
    other name that does is refused."""


class BrowseConfig(Config):
    """The `browse` tool: reads one page of the web."""

    fetch: FetchConfig = FetchConfig()
    """How pages are fetched."""
    page_chars: int = Field(default=4000, ge=200)
    """Characters of one part of a text: what one call shows, centred on a snippet or counted from the start."""
    max_pages: int = Field(default=3, ge=1)
    """Parts one call may ask for."""
    summary: ChatConfig | None = None
    """The model that condenses the whole text to what answers the question; None returns parts of the text itself."""
    cacheable: bool = True
    """True: an equal call may be answered from the cache of `tools.cache`, where `max_age_s` lets results expire."""
    max_summary_chars: Annotated[int, only_with(summary=IS_SET)] = Field(default=40_000, ge=1000)
    """Characters of a text the summarising model is given, from its start, or around the snippet."""
