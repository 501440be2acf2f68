"""The search tool: BM25 over a local index."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import tantivy

from arpo.tools.search.config import SearchConfig
from arpo.tools.search.index import make_analyzer, open_index
from arpo.types import ToolResult

NO_RESULTS = "No search results found."
_FIELDS = ("title", "text")


class LocalSearch:
    """Returns the pages that match any word of a query, best first, as lines `Page 1: <text>`.

    Scores are the sum of BM25 over title and text (k1 = 1.2, b = 0.75); equal scores keep the corpus's order. A query is plain
    words: quotes, operators and field names have no meaning, so that no query can fail to parse.

    Raises:
        ToolError: there is no index at `config.index`.
    """

    name = "search"
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "words to look for"}},
        "required": ["query"],
    }
    is_cacheable = True

    def __init__(self, config: SearchConfig) -> None:
        self._config = config
        index = open_index(config.index)
        self._schema = index.tantivy_index.schema
        self._searcher = index.tantivy_index.searcher()
        self._analyzer = make_analyzer()
        settings = f"{index.content_hash} {config.top_k} {config.max_snippet_chars}"
        self.version = "bm25-1-" + hashlib.sha256(settings.encode()).hexdigest()[:16]

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """The best pages for `arguments["query"]`."""
        query = arguments.get("query")
        if not isinstance(query, str) or not query.strip():
            return ToolResult(content="Error: the search query is empty; write words to look for.", status="error")
        texts = await asyncio.to_thread(self._find, query)
        if not texts:
            return ToolResult(content=NO_RESULTS)
        limit = self._config.max_snippet_chars
        pages = [f"Page {i}: {text[:limit]}" for i, text in enumerate(texts, start=1)]
        return ToolResult(content="\n".join(pages), truncated=any(len(text) > limit for text in texts))

    def fork(self) -> "LocalSearch":
        """The tool itself: it has no state."""
        return self

    async def aclose(self) -> None:
        """Nothing to free."""

    def _find(self, query: str) -> list[str]:
        words = query.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        terms = list(dict.fromkeys(self._analyzer.analyze(words)))
        if not terms:
            return []
        bm25 = tantivy.Query.boolean_query(
            [
                (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, field, term, "freq"))
                for term in terms
                for field in _FIELDS
            ]
        )
        top_k = self._config.top_k
        limit = top_k + 1
        hits = self._searcher.search(bm25, limit).hits
        # Ties that straddle the cut: fetch on until every page that ties with the last one shown is known.
        while len(hits) == limit and hits[-1][0] == hits[top_k - 1][0]:
            limit *= 4
            hits = self._searcher.search(bm25, limit).hits
        documents = [(-score, self._searcher.doc(address)) for score, address in hits]
        documents.sort(key=lambda pair: (pair[0], pair[1]["ordinal"][0]))
        return [document["text"][0] for _, document in documents[:top_k]]
