"""Search over an index on this machine."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import tantivy

from arpo.tools.browse.passages import find_densest, widen
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.hits import Hit
from arpo.tools.search.index import make_analyzer, open_index
from arpo.tools.search.rerank import RerankedSource
from arpo.tools.search.tool import SearchTool
from arpo.tools.version import make_version


class LocalIndex:
    """Finds the documents that hold any word of a query, best first.

    Scores are the weighted sum of BM25 over title and text (k1 = 1.2, b = 0.75); equal scores keep the corpus's order. A query
    is plain words: quotes, operators and field names have no meaning, so no query fails to parse.

    Raises:
        ToolError: `config.index` holds no index.
    """

    is_local = True
    is_cacheable = True

    def __init__(self, config: LocalSearchConfig) -> None:
        self._config = config
        self._weights = {"title": config.title_weight, "text": config.text_weight}
        index = open_index(config.index)
        self.num_documents = index.num_documents
        """Documents in the index."""
        self._schema = index.tantivy_index.schema
        self._searcher = index.tantivy_index.searcher()
        self._analyzer = make_analyzer()
        # One thread per core: asyncio's pool has four more, wakes them in turn and loses a third of the speed.
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="arpo-search")
        self.version = make_version("bm25", index.content_hash, config.title_weight, config.text_weight, config.snippets)

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` documents, searched in a thread; one search per core runs at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.find_now, query, top_k)

    def find_now(self, query: str, top_k: int) -> list[Hit]:
        """As `find`, in the calling thread; any number of threads may search at once."""
        terms = list(dict.fromkeys(self._analyzer.analyze(query)))
        if not terms:
            return []
        bm25 = tantivy.Query.boolean_query(
            [
                (tantivy.Occur.Should, self._term(field, weight, term))
                for term in terms
                for field, weight in self._weights.items()
                if weight
            ]
        )
        limit = top_k + 1
        hits = self._searcher.search(bm25, limit, count=False).hits
        # Ties at the cut: fetch more until every page that ties with the last one shown is known.
        while len(hits) == limit and hits[-1][0] == hits[top_k - 1][0]:
            limit *= 4
            hits = self._searcher.search(bm25, limit, count=False).hits
        documents = [(-score, self._searcher.doc(address)) for score, address in hits]
        documents.sort(key=lambda pair: (pair[0], pair[1]["ordinal"][0]))
        return [self._to_hit(document, -score, query) for score, document in documents[:top_k]]

    async def aclose(self) -> None:
        """End the threads and cancel queries that have not begun."""
        self._threads.shutdown(cancel_futures=True)

    def _term(self, field: str, weight: float, term: str) -> tantivy.Query:
        query = tantivy.Query.term_query(self._schema, field, term, "freq")
        return query if weight == 1 else tantivy.Query.boost_query(query, weight)

    def _to_hit(self, document: tantivy.Document, score: float, query: str) -> Hit:
        title, text = document["title"][0], document["text"][0]
        shown = self._best_part(text, query) if self._config.snippets == "best" else text
        return Hit(
            title=title,
            text=shown,
            url=document["url"][0].decode(),
            id=document["id"][0].decode(),
            score=score,
            is_truncated=len(shown) < len(text),
        )

    def _best_part(self, text: str, query: str) -> str:
        """The part with most of the query's words, `max_snippet_chars` long; the whole text when it holds none."""
        chars = self._config.max_snippet_chars
        densest = find_densest(text, query, chars) if len(text) > chars else None
        if densest is None:
            return text
        part = widen(text, densest, chars)
        return text[part.start : part.end]


class LocalSearch(SearchTool):
    """The `search` tool over an index on this machine.

    Raises:
        ToolError: as `LocalIndex`, and as `RerankedSource` when hits are re-ranked.
    """

    def __init__(self, config: LocalSearchConfig) -> None:
        index = LocalIndex(config)
        super().__init__(RerankedSource(index, config.rerank) if config.rerank is not None else index, config)
