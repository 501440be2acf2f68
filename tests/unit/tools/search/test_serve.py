"""Serving an index and searching it over HTTP: the same pages as on this machine, whoever asks, and whatever is sent."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from arpo.tools.base import Tool, TransientError
from arpo.tools.search.config import HttpSearchConfig, LocalSearchConfig
from arpo.tools.search.http import HttpRetriever
from arpo.tools.search.index import build_index
from arpo.tools.search.local import LocalIndex, LocalSearch
from arpo.tools.search.serve import MAX_BODY_BYTES, RetrieverServer
from arpo.tools.search.tool import SearchTool


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LocalSearchConfig:
    folder = tmp_path_factory.mktemp("serve")
    rows = [{"id": f"d{i}", "title": f"Town {i}", "text": f"town {i} lies\nin region {i % 7}"} for i in range(200)]
    (folder / "c.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    build_index([folder / "c.jsonl"], folder / "index")
    return LocalSearchConfig(index=folder / "index", top_k=4)


@pytest.fixture(scope="module")
def url(config: LocalSearchConfig) -> Iterator[str]:
    server = RetrieverServer(LocalIndex(config), "127.0.0.1", 0, top_k=3)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()
    thread.join()


def remote(url: str, **settings: Any) -> SearchTool:
    config = HttpSearchConfig(url=f"{url}/retrieve", **settings)
    return SearchTool(HttpRetriever(config), config)


async def test_many_clients_at_once_get_what_the_index_holds(url: str, config: LocalSearchConfig):
    local = LocalSearch(config)
    clients = [remote(url, top_k=4) for _ in range(8)]
    assert isinstance(clients[0], Tool)
    queries = [f"town {i} region {i % 5}" for i in range(120)]
    over_http = await asyncio.gather(*(clients[i % 8].run({"query": q}) for i, q in enumerate(queries)))
    here = [await local.run({"query": q}) for q in queries]
    assert over_http == here
    assert "Page 4: " in here[0].content
    for client in clients:
        await client.aclose()


def test_the_protocol(url: str):
    reply = httpx2.post(f"{url}/retrieve", json={"queries": ["town 5", "zebra"], "topk": 1, "return_scores": True}).json()
    ((item,), nothing) = reply["result"]
    assert nothing == []
    assert item["score"] > 0
    document = {
        "id": "d5",
        "title": "Town 5",
        "text": "town 5 lies in region 5",
        "contents": '"Town 5"\ntown 5 lies in region 5',
    }
    assert item["document"] == document
    assert httpx2.post(f"{url}/retrieve", json={"queries": ["town 5"], "topk": 1}).json() == {"result": [[document]]}
    assert len(httpx2.post(f"{url}/retrieve", json={"queries": ["town"]}).json()["result"][0]) == 3, "as many as it was set to"
    assert httpx2.get(f"{url}/health").json() == {"documents": 200}


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"queries": "x"}', 400), (b'{"queries": [1]}', 400),
     (b'{"queries": ["x"], "topk": 0}', 400), (b'{"queries": ["x"], "topk": 1e9}', 400),
     (b'{"queries": ["x"], "topk": true}', 400),
     (b'{"queries": ["x"], "return_scores": "no"}', 400), (b"[" * 100_000, 400),
     (json.dumps({"queries": ["x"] * 1001}).encode(), 400),
     (b'{"queries": ["\\ud800 \\" AND"]}', 200), (b'{"queries": []}', 200), (b"x" * (MAX_BODY_BYTES + 1), 413)],
)  # fmt: skip
def test_whatever_is_sent_is_answered(url: str, content: bytes, status: int):
    reply = httpx2.post(f"{url}/retrieve", content=content)
    assert reply.status_code == status
    assert ("error" in reply.json()) == (status != 200)
    assert httpx2.get(f"{url}/health").status_code == 200


def test_other_paths_and_clients_that_break_off(url: str):
    assert httpx2.get(f"{url}/etc/passwd").status_code == 404
    assert httpx2.post(f"{url}/", json={"queries": []}).status_code == 404
    host, port = url.removeprefix("http://").split(":")
    for raw in (
        b"POST /retrieve HTTP/1.1\r\ncontent-length: 99\r\n\r\n{",
        b"\x00\xff\r\n\r\n",
        b"POST /retrieve HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(raw)
    assert httpx2.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize(
    "result",
    [
        [[{"document": {"id": 3, "contents": '"Kelford"\nA town.'}, "score": 1.5}]],
        [[{"id": "3", "contents": '"Kelford"\nA town.'}]],
        [[{"document": {"title": "Kelford", "text": "A town."}}]],
    ],
)
async def test_replies_of_other_servers_of_the_protocol(serve, replies, result: object):
    for body in ({"result": result}, result):
        server = await serve(replies.reply(200, body))
        assert (await remote(server.url).run({"query": "x"})).content == "Page 1: Kelford: A town."
        assert server.received[0].json() == {"queries": ["x"], "topk": 3, "return_scores": True}


@pytest.mark.parametrize(
    ("body", "says"),
    [({}, "a list of one list"), ({"result": []}, "a list of one list"), ({"result": [[], []]}, "a list of one list"),
     ({"result": [["x"]]}, "'x', not an object"), ({"result": [[{"document": 3}]]}, "not an object"),
     ({"result": [[{"document": {"body": "x"}}]]}, "it has ['body']"),
     (b"<html>", "not JSON")],
)  # fmt: skip
async def test_replies_of_no_server_of_the_protocol_are_failed_searches(serve, replies, body: object, says: str):
    server = await serve(replies.reply(200, body))
    result = await remote(server.url).run({"query": "x"})
    assert result.status == "error"
    assert says in result.content


async def test_a_server_that_is_down_may_come_back():
    with pytest.raises(TransientError, match=r"^Error: the search failed: search: POST http://127.0.0.1:1/retrieve: Conn"):
        await remote("http://127.0.0.1:1").run({"query": "x"})
    assert (await remote("http://127.0.0.1:1").run({"query": " "})).content.startswith("Error: the search query is empty")


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_command_serves_until_it_is_ended(config: LocalSearchConfig, end: signal.Signals, code: int):
    command = [sys.executable, "-m", "arpo.cli.main", "index", "serve", str(config.index), "--port", "0", "--top-k", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        served = re.search(r"serving 200 documents at (http://127\.0\.0\.1:\d+/retrieve)", line)
        assert served is not None, line
        assert len(httpx2.post(served[1], json={"queries": ["town"]}).json()["result"][0]) == 2
        process.send_signal(end)
        assert process.wait() == code
        assert process.stderr.read() == ""


def test_the_missing_extra_is_named(
    config: LocalSearchConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from arpo.cli.main import main

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "arpo.tools.search.serve")
    assert main(["index", "serve", str(config.index)]) == 2
    assert "pip install 'arpo[serve]'" in capsys.readouterr().err


def test_a_port_in_use_is_named(config: LocalSearchConfig, url: str, capsys: pytest.CaptureFixture[str]):
    from arpo.cli.main import main

    assert main(["index", "serve", str(config.index), "--port", url.rpartition(":")[2]]) == 2
    assert "cannot listen there" in capsys.readouterr().err


def test_a_missing_index_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from arpo.cli.main import main

    assert main(["index", "serve", str(tmp_path / "none")]) == 2
    assert "arpo index build" in capsys.readouterr().err
