"""Search over an index on this machine."""

import asyncio
import functools
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tantivy

from arpo.tools.browse.passages import find_densest, widen
from arpo.tools.scripts import query_grams
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.hits import Hit
from arpo.tools.search.index import GRAM_FIELDS, make_analyzer, open_index
from arpo.tools.search.rerank import RerankedSource
from arpo.tools.search.tool import SearchTool
from arpo.tools.version import make_version

_log = logging.getLogger(__name__)


@functools.cache
def _warn_of_former_index(path: Path) -> None:
    _log.warning(
        "%s: a former arpo built this index, which finds Chinese, Japanese, Thai and the like as whole clauses only; build it "
        "anew: arpo index build <corpus> --out %s", path, path,
    )  # fmt: skip


class LocalIndex:
    """Finds the documents that hold any word of a query, best first.

    Words of scripts without blanks (Chinese, Japanese, Thai ...) are found by pairs of characters, in fields of their own.
    Scores are the weighted sum of BM25 over title and text (k1 = 1.2, b = 0.75); equal scores keep the corpus's order. A query
    is plain words: quotes, operators and field names have no meaning, so no query fails to parse.

    Raises:
        ToolError: `config.index` holds no index.
    """

    is_local = True
    is_cacheable = True

    def __init__(self, config: LocalSearchConfig) -> None:
        self._config = config
        weights = {"title": config.title_weight, "text": config.text_weight}
        self._weights = weights | {GRAM_FIELDS[field]: weight for field, weight in weights.items()}
        index = open_index(config.index)
        self.num_documents = index.num_documents
        """Documents in the index."""
        self._has_grams = index.has_grams
        self._schema = index.tantivy_index.schema
        self._searcher = index.tantivy_index.searcher()
        self._analyzer = make_analyzer()
        # One thread per core: asyncio's pool has four more, wakes them in turn and loses a third of the speed.
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="arpo-search")
        algorithm = "bm25-grams" if index.has_grams else "bm25"
        self.version = make_version(algorithm, index.content_hash, config.title_weight, config.text_weight, config.snippets)

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` documents, searched in a thread; one search per core runs at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.find_now, query, top_k)

    def find_now(self, query: str, top_k: int) -> list[Hit]:
        """As `find`, in the calling thread; any number of threads may search at once."""
        terms = [(field, term) for term in dict.fromkeys(self._analyzer.analyze(query)) for field in GRAM_FIELDS]
        terms += [(field, gram) for gram in self._grams(query) for field in GRAM_FIELDS.values()]
        bm25 = tantivy.Query.boolean_query(
            [(tantivy.Occur.Should, self._term(*term)) for term in terms if self._weights[term[0]]]
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

    def _grams(self, query: str) -> list[str]:
        grams = query_grams(query)
        if grams and not self._has_grams:
            _warn_of_former_index(self._config.index)
            return []
        return grams

    def _term(self, field: str, term: str) -> tantivy.Query:
        query, weight = tantivy.Query.term_query(self._schema, field, term, "freq"), self._weights[field]
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
