"""Configuration of the search tool."""

from pathlib import Path

from pydantic import Field

from arpo.config import Config


class SearchConfig(Config):
    """Local BM25 search over an index made by `arpo index build`."""

    index: Path
    """Folder of the index."""
    top_k: int = Field(default=3, ge=1, le=100)
    """Most pages one call returns."""
    max_snippet_chars: int = Field(default=1000, ge=20)
    """Longest text of one page, in characters; what is longer is cut and the result marked as truncated."""
