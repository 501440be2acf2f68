"""Reads the text of a page by its address."""

from arpo.tools.browse.config import FetchConfig
from arpo.tools.browse.extract import PageText, require_packages
from arpo.tools.browse.fetch import Fetcher
from arpo.tools.browse.worker import extract_apart


class PageReader:
    """Fetches pages and extracts their texts.

    Args:
        config: how pages are fetched.
        tool: name of the tool in errors.

    Raises:
        ToolError: the extra `web` is not installed.
    """

    def __init__(self, config: FetchConfig, tool: str) -> None:
        require_packages(tool)
        self._config = config
        self._fetcher = Fetcher(config)

    async def read(self, url: str) -> PageText:
        """The title and text of a page.

        Raises:
            HttpError: the page cannot be fetched, or holds no text.
        """
        page = await self._fetcher.fetch(url)
        return await extract_apart(page, self._config.max_pdf_pages, self._config.extract_s)
