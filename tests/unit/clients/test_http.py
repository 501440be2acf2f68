"""The HTTP client against servers that misbehave, and what becomes of its key."""

import asyncio
import gzip
import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from arpo.clients.config import ChatConfig, HttpConfig
from arpo.clients.http import HttpClient, HttpError, read_retry_after
from arpo.clients.keys import ApiKey
from arpo.config import load_config, parse_config
from arpo.errors import ConfigError

SECRET = "sk-very-secret-value-1234"


def client(**settings: object) -> HttpClient:
    key = ApiKey("TEST_KEY", SECRET)
    return HttpClient("svc", HttpConfig(**settings), {"authorization": f"Bearer {SECRET}"}, key)


async def test_what_is_asked_arrives_and_the_reply_comes_back(serve, replies):
    server = await serve(replies.reply(200, {"found": "Kelford"}))
    assert await client().request_json("POST", f"{server.url}/x", params={"q": "a b"}, body={"k": 3}) == {"found": "Kelford"}
    (request,) = server.received
    assert (request.method, request.target, request.json()) == ("POST", "/x?q=a+b", {"k": 3})
    assert request.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_passing_error_says_so_and_when_to_come_again(serve, replies, status: int):
    server = await serve(replies.reply(status, b"busy", retry_after="7"))
    with pytest.raises(HttpError, match=f"svc: GET {server.url}: status {status}: busy$") as caught:
        await client().request_json("GET", server.url)
    assert (caught.value.status, caught.value.is_transient, caught.value.retry_after_s) == (status, True, 7.0)
    assert len(server.received) == 1, "whoever asked decides whether to ask again"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422, 501])
async def test_a_lasting_error_is_none(serve, replies, status: int):
    server = await serve(replies.reply(status, b"no", location="http://127.0.0.1/elsewhere"))
    with pytest.raises(HttpError, match=f"svc: GET {server.url}: status {status}: no$") as caught:
        await client().request_json("GET", server.url)
    assert (caught.value.status, caught.value.is_transient, len(server.received)) == (status, False, 1)


def test_retry_after_is_a_number_or_a_date_or_nothing():
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 58 <= (read_retry_after(in_a_minute) or 0) <= 60
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert read_retry_after("2.5") == 2.5
    assert [read_retry_after(t) for t in ("-3", "soon", "inf", "nan", "", "1e999", None)] == [0.0, *[None] * 6]


async def test_no_server_a_lost_connection_and_a_slow_one(serve):
    with pytest.raises(HttpError, match=r"svc: GET http://127.0.0.1:1/x: ConnectError") as caught:
        await client().request_json("GET", "http://127.0.0.1:1/x")
    assert caught.value.is_transient

    async def closes_amid_the_body(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    async def closes_amid_chunks(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf")

    async def says_nothing(_, writer):
        pass

    for handler in (closes_amid_the_body, closes_amid_chunks, says_nothing):
        server = await serve(handler)
        with pytest.raises(HttpError, match="RemoteProtocolError") as caught:
            await client().request_json("GET", server.url)
        assert (caught.value.is_transient, len(server.received)) == (True, 1)

    async def drips(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        for _ in range(1000):  # each read succeeds: only the time of the whole attempt ends this
            writer.write(b"x")
            await writer.drain()
            await asyncio.get_running_loop().run_in_executor(None, lambda: __import__("time").sleep(0.02))

    server = await serve(drips)
    with pytest.raises(HttpError, match=r"no whole reply within 0.2 s") as caught:
        await client(timeout_s=0.2).request_json("GET", server.url)
    assert caught.value.is_transient


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"<html>busy</html>", "not JSON: <html>busy"), (b"", "not JSON: .empty"), (b'{"a": ', "not JSON"),
     (b"[" * 100_000, "not JSON"), (b"\xff\xfe\x00", "not JSON")],
)  # fmt: skip
async def test_garbage_is_no_json_and_is_not_asked_for_again(serve, replies, body: bytes, says: str):
    server = await serve(replies.reply(200, body))
    with pytest.raises(HttpError, match=says) as caught:
        await client().request_json("GET", server.url)
    assert len(server.received) == 1
    assert len(str(caught.value)) < 400


async def test_size_is_limited_packed_or_not_and_whatever_is_declared(serve, replies):
    async def endless(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 2**18)
            await writer.drain()

    bomb = gzip.compress(b"0" * 2**26)  # 64 MiB in 64 KiB
    for handler in (endless, replies.reply(200, b"x" * 2**21), replies.reply(200, bomb, content_encoding="gzip")):
        server = await serve(handler)
        with pytest.raises(HttpError, match="longer than 1 MiB"):
            await client(max_body_mb=1.0).request_json("GET", server.url)
        assert len(server.received) == 1


async def test_packed_replies(serve, replies):
    packed = gzip.compress(json.dumps("Kelford").encode())
    server = await serve(replies.reply(200, packed, content_encoding="gzip"))
    assert await client().request_json("GET", server.url) == "Kelford"
    broken = ((packed[:-9], "gzip", "breaks off"), (b"nonsense", "gzip", "damaged"), (b"x", "br", "only gzip is accepted"))
    for body, encoding, says in broken:
        server = await serve(replies.reply(200, body, content_encoding=encoding))
        with pytest.raises(HttpError, match=says):
            await client().request_json("GET", server.url)


async def test_requests_are_spaced_evenly(serve, replies, no_waiting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("arpo.clients.http.time.monotonic", lambda: 100.0)  # the clock stands still
    server = await serve(replies.reply(200, 1))
    limited = client(requests_per_s=4.0)
    await asyncio.gather(*(limited.request_json("GET", server.url) for _ in range(4)))
    assert sorted(no_waiting) == [0.25, 0.5, 0.75], "the first at once, each other 1/4 s later"


def test_one_client_serves_one_event_loop_after_another(serve, replies):
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "1")
            self.end_headers()
            self.wfile.write(b"1")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        service = client()
        url = f"http://127.0.0.1:{server.server_port}"
        assert [asyncio.run(service.request_json("GET", url)) for _ in range(3)] == [1, 1, 1]
        server.shutdown()


async def test_the_key_is_seen_by_the_server_alone(serve, replies, caplog: pytest.LogCaptureFixture):
    async def echoes(request, writer):
        await replies.reply(200, {"you sent": request.headers})(request, writer)

    async def complains(request, writer):
        await replies.reply(401, f"bad key {request.headers['authorization']}".encode())(request, writer)

    with caplog.at_level(logging.DEBUG):
        server = await serve(echoes)
        assert SECRET not in json.dumps(await client().request_json("GET", server.url))
        server = await serve(complains)
        with pytest.raises(HttpError, match=r"bad key Bearer \*\*\*") as caught:
            await client().request_json("GET", server.url)
    assert server.received[0].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    assert SECRET not in repr(ApiKey("TEST_KEY", SECRET))


def test_a_key_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"tools\.search: the environment variable TEST_KEY is not set"):
        ApiKey.from_environment("TEST_KEY", "tools.search")
    monkeypatch.setenv("TEST_KEY", f" {SECRET}\n")
    assert ApiKey.from_environment("TEST_KEY", "x").value == SECRET
    monkeypatch.setenv("TEST_KEY", "the")
    with pytest.raises(ConfigError, match="TEST_KEY holds 3 characters; no key is so short"):
        ApiKey.from_environment("TEST_KEY", "x")
    monkeypatch.setenv("TEST_KEY", f"{SECRET}\r\nx-injected: 1")
    with pytest.raises(ConfigError, match="TEST_KEY holds characters") as caught:
        ApiKey.from_environment("TEST_KEY", "x")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key_env": SECRET},
        {"base_url": f"https://user:{SECRET}@host/v1"},
        {"base_url": f"https://host/v1?key={SECRET}"},
        {"api_key": SECRET},
    ],
)
def test_a_key_written_into_a_configuration_is_refused_and_not_repeated(settings: dict[str, str]):
    with pytest.raises(ConfigError) as caught:
        parse_config(ChatConfig, {"base_url": "http://h/v1", "model": "m", **settings}, "x.toml")
    assert next(iter(settings)) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_address_needs_a_scheme_and_a_host():
    for url in ("localhost:8000", "ftp://host", "http://", "file:///etc/passwd"):
        with pytest.raises(ConfigError, match="http"):
            load_config(ChatConfig, None, [f"base_url={url}", "model=m"])
    assert load_config(ChatConfig, None, ["base_url=http://[::1]:8000/v1/", "model=m"]).base_url == "http://[::1]:8000/v1"
