"""Search whose results a model condenses to what helps with the question."""

from collections.abc import Mapping
from typing import Any

from arpo.clients.config import ChatConfig
from arpo.clients.http import HttpError
from arpo.tools.base import StatelessTool, Tool
from arpo.tools.browse.summary import Summarizer
from arpo.tools.failures import http_failure
from arpo.tools.search.hits import NO_RESULTS
from arpo.tools.search.tool import QUERY_SCHEMA, SEARCH_FAILED
from arpo.tools.version import make_version
from arpo.types import ToolResult


class SummarizedSearch(StatelessTool):
    """A search tool whose pages a model condenses for the question; failures and empty results pass unchanged.

    It is the reason-in-documents step of Search-o1 (arXiv:2501.05366) and the summary of the papers' deep search. Those give
    the summariser the agent's earlier reasoning; here it gets the task's question and the query.

    Args:
        tool: the search tool.
        config: the model that condenses.

    Raises:
        ConfigError: the model's key is not in the environment.
    """

    name = "search"
    needs_question = True
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            **QUERY_SCHEMA["properties"],
            "question": {"type": "string", "description": "what the pages are to answer, if not the task's question"},
        },
        "required": ["query"],
    }

    def __init__(self, tool: Tool, config: ChatConfig) -> None:
        self._tool = tool
        self._summarizer = Summarizer(config, "tools.search.summary")
        self.is_cacheable = tool.is_cacheable
        self.version = make_version("summarized-1", tool.version, self._summarizer.version)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """The pages for `arguments["query"]`, condensed for `arguments["question"]`, else for the query."""
        pages = await self._tool.run(arguments)
        if pages.status != "success" or pages.content == NO_RESULTS:
            return pages
        query = str(arguments["query"])
        try:
            reply = await self._summarizer.summarize(str(arguments.get("question") or query), query, pages.content)
        except HttpError as error:
            return http_failure(error, SEARCH_FAILED)
        return ToolResult(content=reply.text.strip(), truncated=reply.is_truncated)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._tool.aclose()
        await self._summarizer.aclose()
