"""Fetching pages: redirects, rebinding, hostile servers, and what a request gives away."""

import asyncio
import gzip
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from arpo.clients.http import HttpError
from arpo.tools.browse.config import FetchConfig
from arpo.tools.browse.fetch import Fetcher


def fetcher(**settings: Any) -> Fetcher:
    return Fetcher(FetchConfig(**{"allowed_hosts": ("127.0.0.1",), **settings}))


async def test_a_page_arrives_with_what_its_server_says_of_it(serve, replies):
    server = await serve(replies.reply(200, b"hello", content_type="Text/HTML; Charset=utf-8"))
    page = await fetcher().fetch(f" {server.url}/a?b=c#part ")
    assert (page.url, page.media_type, page.charset, page.body) == (f"{server.url}/a?b=c#part", "text/html", "utf-8", b"hello")
    (request,) = server.received
    assert (request.method, request.target, request.headers["host"]) == ("GET", "/a?b=c", f"127.0.0.1:{server.port}")
    assert not {"cookie", "referer", "authorization"} & set(request.headers)


async def test_the_user_agent_is_the_users(serve, replies):
    server = await serve(replies.reply(200, b"hello"))
    await fetcher().fetch(server.url)
    await fetcher(user_agent="mybot/1.0 (me@example.org)").fetch(server.url)
    sent = [request.headers["user-agent"] for request in server.received]
    assert sent == ["Mozilla/5.0 (compatible; arpo)", "mybot/1.0 (me@example.org)"]
    with pytest.raises(ValueError, match="user_agent"):
        fetcher(user_agent="a\r\nx: y")


async def test_without_being_allowed_by_name_this_machine_is_not_reached(serve, replies):
    server = await serve(replies.reply(200, b"secret"))
    for host in ("127.0.0.1", "localhost", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "0.0.0.0", "127。0。0。1"):
        with pytest.raises(HttpError, match=r"refused|no such host"):
            await Fetcher(FetchConfig()).fetch(f"http://{host}:{server.port}/")
    assert server.received == []


@pytest.mark.parametrize(
    "url",
    ["", "x", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x", "javascript:alert(1)", "data:text/html,x", "http://",
     "//x", "http:///x", "http://user:pw@127.0.0.1/", "http://x:99999999/", "http://[::1", "\x00", "http://x\x00y/", "unix:///run/docker.sock"],
)  # fmt: skip
async def test_what_is_no_address_of_a_page_is_refused(url: str):
    with pytest.raises(HttpError, match=r"not an address|refused|no such host"):
        await fetcher().fetch(url)


async def test_redirects_are_followed_and_end(serve, replies):
    async def redirects(request, writer):
        hops = ((301, "/b"), (302, "c"), (303, "?d"), (307, f"//127.0.0.1:{server.port}/e"), (308, "/f"))
        n = len(server.received)
        answer = replies.reply(hops[n - 1][0], location=hops[n - 1][1]) if n <= len(hops) else replies.reply(200, b"end")
        await answer(request, writer)

    server = await serve(redirects)
    page = await fetcher().fetch(f"{server.url}/a")
    assert [r.target for r in server.received] == ["/a", "/b", "/c", "/c?d", "/e", "/f"]
    assert (page.url, page.body) == (f"{server.url}/f", b"end")
    loop = await serve(replies.reply(302, location="/again"))
    with pytest.raises(HttpError, match="more than 3 redirects"):
        await fetcher(max_redirects=3).fetch(loop.url)
    assert len(loop.received) == 4


@pytest.mark.parametrize(
    "target",
    ["http://localhost:{port}/", "http://127.1:{port}/", "http://[::1]:{port}/", "//0.0.0.0:{port}/", "http://169.254.169.254/latest/",
     "http://10.0.0.1/", "file:///etc/passwd", "http://a:b@127.0.0.1:{port}/", "http://[::ffff:7f00:1]:{port}/"],
)  # fmt: skip
async def test_a_redirect_to_a_private_address_is_refused(serve, replies, target: str):
    hidden = await serve(replies.reply(200, b"secret"))
    server = await serve(replies.reply(302, location=target.format(port=hidden.port)))
    with pytest.raises(HttpError, match=r"refused|not an address|no such host"):
        await fetcher().fetch(server.url)
    assert hidden.received == []


async def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(serve, replies, monkeypatch):
    """DNS rebinding: the first look-up gives a harmless address, every later one a private server's."""
    hidden = await serve(replies.reply(200, b"secret"))
    look_ups: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host == "rebind.example":
            look_ups.append(host)
            address = "192.0.2.1" if len(look_ups) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return real(host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr("arpo.tools.browse.addresses.is_public", lambda address: str(address) == "192.0.2.1")
    with pytest.raises(HttpError):
        await Fetcher(FetchConfig(timeout_s=0.5)).fetch(f"http://rebind.example:{hidden.port}/")
    assert (look_ups, hidden.received) == (["rebind.example"], []), "one look-up, and no second one before connecting"
    with pytest.raises(HttpError, match="refused"):
        await Fetcher(FetchConfig()).fetch(f"http://rebind.example:{hidden.port}/")


async def test_the_name_is_what_the_server_is_asked_for_though_the_address_is_connected_to(serve, replies):
    server = await serve(replies.reply(200, b"x", content_type="text/plain"))
    await fetcher(allowed_hosts=("localhost",)).fetch(f"http://localhost:{server.port}/")
    assert server.received[0].headers["host"] == f"localhost:{server.port}"


async def test_another_address_of_a_host_is_tried_when_one_is_down(serve, replies, monkeypatch: pytest.MonkeyPatch):
    server = await serve(replies.reply(200, b"x"))
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, server.port)) for a in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)  # 127.0.0.2: nobody listens there
    assert (await fetcher(allowed_hosts=("two.example",)).fetch(f"http://two.example:{server.port}/")).body == b"x"


async def test_a_certificate_must_be_the_name_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=right.example"]
    names = ["-addext", "subjectAltName=DNS:right.example", "-keyout", str(key), "-out", str(certificate)]
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with the openssl command")
    subprocess.run([*command, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr("arpo.tools.browse.fetch.tls", lambda: ssl.create_default_context(cafile=str(certificate)))
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
    pages = fetcher(allowed_hosts=("right.example", "wrong.example"))
    assert (await pages.fetch(f"https://right.example:{port}/")).body == b"x"
    with pytest.raises(HttpError, match=r"wrong\.example"):
        await pages.fetch(f"https://wrong.example:{port}/")
    server.close()


async def test_a_proxy_of_the_environment_is_not_used(serve, replies, monkeypatch: pytest.MonkeyPatch):
    proxy = await serve(replies.reply(200, b"from the proxy"))
    server = await serve(replies.reply(200, b"direct"))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    assert (await fetcher().fetch(server.url)).body == b"direct"
    assert proxy.received == []


async def test_hostile_servers_cost_no_more_than_their_page(serve, replies):
    async def endless(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 2**18)
            await writer.drain()

    async def endless_head(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(64):
            writer.write(b"x-header: " + b"y" * 2**14 + b"\r\n")
            await writer.drain()

    async def silent(*_: object):
        await asyncio.Event().wait()

    async def rude(_, writer):
        writer.write(b"\x00\x01 SSH-2.0\r\n\r\n")

    bomb = gzip.compress(b"0" * 2**26)
    for handler, says in (
        (endless, "longer than 1 MiB"),
        (replies.reply(200, bomb, content_encoding="gzip"), "longer than 1 MiB"),
        (replies.reply(200, b"x", content_encoding="br"), "only gzip is accepted"),
        (endless_head, "RemoteProtocolError"),
        (rude, "RemoteProtocolError"),
        (silent, "no whole page within 0.3 s"),
        (replies.reply(404), "status 404"),
        (replies.reply(302, b"no location"), "status 302"),
    ):
        server = await serve(handler)
        with pytest.raises(HttpError, match=says):
            await fetcher(max_body_mb=1, timeout_s=0.3 if handler is silent else 20).fetch(server.url)


async def test_a_bounded_number_of_pages_at_once(serve, replies):
    now = most = 0

    async def counts(request, writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await replies.reply(200, b"x")(request, writer)

    server = await serve(counts)
    pages = fetcher(max_concurrency=3)
    await asyncio.gather(*(pages.fetch(server.url) for _ in range(12)))
    assert most == 3
