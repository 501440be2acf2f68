"""Configuration of the browse tool."""

from typing import Annotated

from pydantic import Field

from arpo.clients.config import ChatConfig
from arpo.conditions import IS_SET, only_with
from arpo.config import Config


class FetchConfig(Config):
    """How pages of the web are fetched."""

    timeout_s: float = Field(default=20.0, gt=0)
    """Most seconds to fetch one page, redirects included."""
    max_body_mb: float = Field(default=8.0, gt=0)
    """Most MiB of a decompressed page; a longer page is an error."""
    max_redirects: int = Field(default=5, ge=0)
    """Most redirects followed; one more is an error."""
    extract_s: float = Field(default=10.0, gt=0)
    """Most seconds to extract one page's text."""
    max_pdf_pages: int = Field(default=100, ge=1)
    """Most pages read of a PDF."""
    max_concurrency: int = Field(default=10, ge=1)
    """Most pages fetched at the same time; further pages wait."""
    user_agent: str = Field(default="Mozilla/5.0 (compatible; arpo)", pattern=r"^[ -~]+$")
    """The User-Agent header of every request; some sites, such as Wikipedia, answer 403 to one without a contact."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that may resolve to private, loopback and link-local addresses, e.g. `["intranet.example", "localhost"]`; any
    other such name is refused."""


class BrowseConfig(Config):
    """The `browse` tool: reads a page of the web."""

    fetch: FetchConfig = FetchConfig()
    """How pages are fetched."""
    page_chars: int = Field(default=4000, ge=200)
    """Characters of one part of a text, centred on a snippet or counted from the start."""
    max_pages: int = Field(default=3, ge=1)
    """Most parts of one call."""
    summary: ChatConfig | None = None
    """Model that condenses the text to what answers the question; None returns parts of the text."""
    cacheable: bool = True
    """True: the cache of `tools.cache` may answer an equal call; its `max_age_s` lets results expire."""
    max_summary_chars: Annotated[int, only_with(summary=IS_SET)] = Field(default=40_000, ge=1000)
    """Most characters of a text given to the summarising model, from the start or around the snippet."""
