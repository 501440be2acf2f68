"""Environment variables for proxies and certificates: loopback needs no proxy, and a wrong value is named at once."""

import asyncio
import os
import subprocess
import sys

import pytest

from arpo.clients.config import HttpConfig
from arpo.clients.http import HttpClient, HttpError, require_environment, tls
from arpo.errors import ConfigError

VARIABLES = [f"{s}_proxy" for s in ("http", "https", "all", "no")] + ["SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    tls.cache_clear()
    yield
    tls.cache_clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_services_on_this_machine_are_reached_without_the_proxy(
    host: str, serve, replies, monkeypatch: pytest.MonkeyPatch
):
    proxy = await serve(replies.reply(502, b"I AM THE PROXY"))
    server = await serve(replies.reply(200, {"found": 1}))
    for name in ("http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        url = server.url.replace("127.0.0.1", host)
        assert await HttpClient("svc", HttpConfig()).request_json("GET", url) == {"found": 1}
    assert not proxy.received
    with pytest.raises(HttpError, match="I AM THE PROXY"):
        await HttpClient("svc", HttpConfig()).request_json("GET", "http://elsewhere.test/")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1080", "not the address of a proxy"),
        ("all_proxy", "socks5://127.0.0.1:1080", "needs the package socksio"),
        ("http_proxy", "ftp://10.0.0.1:3128", "not the address of a proxy"),
        ("HTTPS_PROXY", "http://h:port", "not the address of a proxy"),
        ("https_proxy", "http://", "not the address of a proxy"),
        ("http_proxy", "http://[::1", "not the address of a proxy"),
        ("SSL_CERT_FILE", "/nowhere.pem", "no certificates can be read"),
        ("SSL_CERT_FILE", os.devnull, "no certificates can be read"),
        ("SSL_CERT_DIR", "/nowhere", "there is no such folder"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name} = '.*{says}") as caught:
        require_environment()
    assert "\n" not in str(caught.value)


def test_a_password_in_a_wrong_value_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "ftp://me:secret-word@host:1")
    with pytest.raises(ConfigError) as caught:
        require_environment()
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("http_proxy", "10.0.0.1:3128"), ("no_proxy", "::1,[x,*.a"), ("ALL_PROXY", "")])
def test_usable_values_are_used(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    require_environment()


async def test_a_command_ends_with_the_line_and_code_2():
    """A tool's client is made before its first call, so a run does not train on searches that all fail."""
    arguments = ["tool", "call", "search", "x", "--search.type=http", "--search.url=http://127.0.0.1:9/retrieve"]
    program = [sys.executable, "-c", "import sys; from arpo.cli.main import main; sys.exit(main(sys.argv[1:]))", *arguments]
    environment = os.environ | {"ALL_PROXY": "socks://127.0.0.1:1080"}
    done = await asyncio.to_thread(subprocess.run, program, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ALL_PROXY = 'socks://127.0.0.1:1080'")
