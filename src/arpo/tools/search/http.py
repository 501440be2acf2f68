"""Search through a retrieval server with the Search-R1 protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from arpo.clients.http import HttpClient, HttpError
from arpo.tools.search.config import HttpSearchConfig
from arpo.tools.search.corpus import split_contents
from arpo.tools.search.hits import Hit


class HttpRetriever:
    """A server that answers `{"queries": [q], "topk": k, "return_scores": true}` with `{"result": [[item, ...]]}`.

    An item is `{"document": {...}, "score": s}` or only the document; a document has `contents`, whose first line is the
    title, or `title` and `text`; a `document` that is a text is read as `contents`. The reply may also be the outer list
    without `result`.
    """

    is_local = False

    def __init__(self, config: HttpSearchConfig) -> None:
        self._url = config.url
        self._client = HttpClient("search", config.http)
        self.version = config.url
        self.is_cacheable = config.cacheable

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` documents, in the server's order."""
        body = {"queries": [query], "topk": top_k, "return_scores": True}
        reply = await self._client.request_json("POST", self._url, body=body)
        results = reply.get("result") if isinstance(reply, dict) else reply
        if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], list):
            raise HttpError(
                f"{self._url}: the reply to one query must be {{'result': [[...]]}}, a list of one list of documents"
            )
        return [self._read(item) for item in results[0][:top_k]]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _read(self, item: Any) -> Hit:
        document = item.get("document", item) if isinstance(item, Mapping) else None
        if isinstance(document, str):
            document = {"contents": document}
        if not isinstance(document, Mapping):
            raise HttpError(f"{self._url}: a document in the reply is {str(item)[:100]!r}, not an object")
        title, text = document.get("title"), document.get("text")
        if not isinstance(text, str):
            if not isinstance(document.get("contents"), str):
                raise HttpError(
                    f"{self._url}: a document in the reply has neither `contents` nor `text`; it has {list(document)}"
                )
            title, text = split_contents(document["contents"])
        score = item.get("score")
        return Hit(
            title=title if isinstance(title, str) else "",
            text=text,
            id=str(document.get("id", "")),
            score=score if isinstance(score, int | float) else None,
        )
