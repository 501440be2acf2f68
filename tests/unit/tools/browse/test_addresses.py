"""Which addresses may be reached."""

import ipaddress
import socket

import pytest

from arpo.clients.http import HttpError
from arpo.tools.browse.addresses import is_public, resolve

NOT_PUBLIC = [
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1",
    "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::7f00:1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "2001:0:a00:1::1",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_addresses_that_are_not_public(text: str):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are(text: str):
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0", "::1", "::ffff:127.0.0.1", "[::1]",
     "LOCALHOST.", "10.1.2.3"],
)  # fmt: skip
async def test_every_spelling_of_a_private_address_is_refused(host: str):
    with pytest.raises(HttpError, match=r"refused: it resolves to|no such host"):
        await resolve(host, 80, ())


async def test_a_host_allowed_by_name_may_be_private_and_no_other():
    assert [str(a) for a in await resolve("127.0.0.1", 80, ["127.0.0.1"])] == ["127.0.0.1"]
    assert all(a.is_loopback for a in await resolve("LocalHost", 80, ["localhost"]))
    with pytest.raises(HttpError, match="refused"):
        await resolve("127.0.0.1", 80, ["localhost", "127.0.0"])


async def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch):
    def look_up(*addresses: str):
        def getaddrinfo(host: str, port: int, *_: object, **__: object):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

        return getaddrinfo

    monkeypatch.setattr(socket, "getaddrinfo", look_up("8.8.8.8", "1.1.1.1"))
    assert [str(a) for a in await resolve("x.example", 80, ())] == ["8.8.8.8", "1.1.1.1"]
    monkeypatch.setattr(socket, "getaddrinfo", look_up("8.8.8.8", "192.168.0.1"))
    with pytest.raises(HttpError, match=r"x\.example: refused: it resolves to 192\.168\.0\.1"):
        await resolve("x.example", 80, ())
    monkeypatch.setattr(socket, "getaddrinfo", look_up())
    with pytest.raises(HttpError, match="no such host"):
        await resolve("x.example", 80, ())


@pytest.mark.parametrize("host", ["", "a..b", "x" * 70 + ".example", "exa%20mple", "no-such-host.invalid"])
async def test_names_that_are_none(host: str):
    with pytest.raises(HttpError, match=r"no such host|refused"):
        await resolve(host, 80, ())
