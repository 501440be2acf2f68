"""Serves an index with the Search-R1 protocol to other programs and machines. Needs the extra `serve`."""

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arpo.tools.search.hits import Hit
from arpo.tools.search.local import LocalIndex

MAX_BODY_BYTES = 4 * 2**20
MAX_QUERIES = 1000
MAX_TOP_K = 100
_BODY_S = 60.0
"""Most seconds a request's body may take."""
_IDLE_S = 60
"""Seconds an idle connection stays open."""
_GOODBYE_S = 5
"""Seconds requests under way may take after the server is stopped."""


class RetrieverServer:
    """Answers `POST /retrieve`, and `GET /health` for clients that wait for the server.

    A request is `{"queries": [...], "topk": k, "return_scores": true}`, the last two optional; the reply is
    `{"result": [[item, ...], ...]}`, one list per query. An item is `{"document": {"id", "title", "text", "contents"}, "score":
    s}` with scores, else only the document; `contents` is the title in quotes, a line break and the text.

    Args:
        index: the index.
        host: address to listen on; only this machine reaches `127.0.0.1`.
        port: port to listen on; 0 takes a free one, which the attribute `port` holds.
        top_k: documents per query for requests without `topk`.

    Raises:
        OSError, OverflowError: the address or port cannot be used.

    Example:
        RetrieverServer(LocalIndex(LocalSearchConfig(index=Path("index"))), "127.0.0.1", 8000, top_k=3).run()
    """

    def __init__(self, index: LocalIndex, host: str, port: int, top_k: int) -> None:
        self._index = index
        self._top_k = top_k
        self._listener = socket.create_server((host, port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        routes = [Route("/retrieve", self._retrieve, methods=["POST"]), Route("/health", self._health)]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
        limits: dict[str, Any] = {"timeout_keep_alive": _IDLE_S, "timeout_graceful_shutdown": _GOODBYE_S}
        quiet: dict[str, Any] = {"log_config": None, "log_level": "error", "access_log": False}
        self._server = uvicorn.Server(uvicorn.Config(app, loop="asyncio", http="h11", lifespan="off", **limits, **quiet))

    def run(self) -> None:
        """Serve until `stop`, Ctrl-C or SIGTERM; the signals are raised again after everything is closed."""
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"documents": self._index.num_documents})

    async def _retrieve(self, request: Request) -> Response:
        queries, top_k, with_scores = _check(await _read(request), self._top_k)
        hits_by_query = await asyncio.gather(*(self._index.find(query, top_k) for query in queries))
        return JSONResponse({"result": [[_to_item(hit, with_scores) for hit in hits] for hits in hits_by_query]})


async def _refuse(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    reason = f"{request.url.path}: there is POST /retrieve and GET /health" if status in (404, 405) else str(error)
    return JSONResponse({"error": reason}, status, headers={"connection": "close"})  # the rest of the request is not read


async def _read(request: Request) -> Any:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(413, f"a request may have {MAX_BODY_BYTES} bytes")
        return json.loads(body)
    except TimeoutError:
        raise HTTPException(408, f"no whole request within {_BODY_S:g} s") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is not JSON") from None


def _check(request: Any, default_top_k: int) -> tuple[list[str], int, bool]:
    """Queries, documents per query, and whether the reply has scores."""
    if not isinstance(request, Mapping):
        raise HTTPException(400, 'the request must be an object, {"queries": [...]}')
    queries, top_k, with_scores = request.get("queries"), request.get("topk"), request.get("return_scores", False)
    if not isinstance(queries, list) or not all(isinstance(q, str) for q in queries) or len(queries) > MAX_QUERIES:
        raise HTTPException(400, f"queries must be a list of at most {MAX_QUERIES} strings")
    top_k = default_top_k if top_k is None else top_k
    if type(top_k) is not int or not 1 <= top_k <= MAX_TOP_K:
        raise HTTPException(400, f"topk must be an integer from 1 to {MAX_TOP_K}")
    if type(with_scores) is not bool:
        raise HTTPException(400, "return_scores must be true or false")
    return [q.encode("utf-8", "replace").decode() for q in queries], top_k, with_scores


def _to_item(hit: Hit, with_score: bool) -> dict[str, Any]:
    contents = f'"{hit.title}"\n{hit.text}'
    document = {"id": hit.id, "title": hit.title, "text": hit.text, "contents": contents}
    if hit.url:
        document["url"] = hit.url
    return {"document": document, "score": hit.score} if with_score else document
