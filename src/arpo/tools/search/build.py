"""Builds the search tool of a configuration."""

from arpo.tools.base import Tool
from arpo.tools.search.config import DeepSearchConfig, HttpSearchConfig, LocalSearchConfig, SearchConfig
from arpo.tools.search.deep import DeepSearch
from arpo.tools.search.http import HttpRetriever
from arpo.tools.search.local import LocalSearch
from arpo.tools.search.summarized import SummarizedSearch
from arpo.tools.search.tool import SearchTool
from arpo.tools.search.web import WebSearch


def build_search(config: SearchConfig) -> Tool:
    """The tool of the section's type; with `summary`, a model condenses its results.

    Raises:
        ToolError: the index is missing, or the extra `web` is, for a tool that reads pages.
        ConfigError: a key is not in the environment.
    """
    tool = _build_plain(config)
    return SummarizedSearch(tool, config.summary) if config.summary is not None else tool


def _build_plain(config: SearchConfig) -> Tool:
    if isinstance(config, LocalSearchConfig):
        return LocalSearch(config)
    if isinstance(config, HttpSearchConfig):
        return SearchTool(HttpRetriever(config), config)
    if isinstance(config, DeepSearchConfig):
        return DeepSearch(config, WebSearch(config))
    return SearchTool(WebSearch(config), config)
