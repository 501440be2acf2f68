"""Web search services: what each is asked and understood to say, and what becomes of it when they misbehave."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from arpo.cache import Cache, CacheConfig
from arpo.clients.config import HttpConfig
from arpo.config import dump_config, parse_config
from arpo.errors import ConfigError
from arpo.tools.base import TransientError
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.tools.search.config import WebSearchConfig
from arpo.tools.search.hits import NO_RESULTS
from arpo.tools.search.tool import SearchTool
from arpo.tools.search.web import WebSearch
from arpo.types import ToolCall

SECRET = "sk-very-secret-value-1234"
NAMES = ["searxng", "brave", "serper", "tavily", "brightdata"]
VARIABLES = {
    "brave": "BRAVE_API_KEY",
    "serper": "SERPER_API_KEY",
    "tavily": "TAVILY_API_KEY",
    "brightdata": "BRIGHTDATA_API_KEY",
}


def found(name: str, *texts: str) -> dict[str, Any]:
    """A reply of a service, in its form."""
    text, url = {"brave": ("description", "url"), "serper": ("snippet", "link"), "brightdata": ("description", "link")}.get(
        name, ("content", "url")
    )
    results = [{"title": f"T{i}", text: t, url: f"https://x/{i}"} for i, t in enumerate(texts)]
    if name == "brave":
        return {"web": {"results": results}}
    return {"organic" if name in ("serper", "brightdata") else "results": results}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, SECRET)


def tool(name: str, url: str, **settings: Any) -> SearchTool:
    settings = {"zone": "z1" if name == "brightdata" else None, **settings}
    config = WebSearchConfig(provider=name, url=url, **settings)
    return SearchTool(WebSearch(config), config)


@pytest.mark.parametrize("name", NAMES)
async def test_each_service_is_asked_in_its_way_and_understood(serve, replies, name: str):
    server = await serve(replies.reply(200, found(name, "A <strong>town</strong> &amp; more.", "x", "x", "", "y", "z")))
    result = await tool(name, server.url).run({"query": "Ada Moor & co"})
    assert result.content == "Page 1: T0: A town & more.\nPage 2: T1: x\nPage 3: T4: y"
    (request,) = server.received
    parts = urlsplit(request.target)
    query = {k: v[0] for k, v in parse_qs(parts.query).items()}
    held = [k for k, v in request.headers.items() if SECRET in v]
    match name:
        case "searxng":
            assert (request.method, parts.path, held) == ("GET", "/search", [])
            assert query == {"q": "Ada Moor & co", "format": "json", "language": "en-US"}
        case "brave":
            assert (request.method, held) == ("GET", ["x-subscription-token"])
            assert query == {"q": "Ada Moor & co", "count": "3", "country": "us", "search_lang": "en"}
        case "serper":
            assert (request.method, held) == ("POST", ["x-api-key"])
            assert request.json() == {"q": "Ada Moor & co", "num": 3, "gl": "us", "hl": "en"}
        case "tavily":
            assert (request.method, held) == ("POST", ["authorization"])
            assert request.json() == {"query": "Ada Moor & co", "max_results": 3}
        case "brightdata":
            assert (request.method, held) == ("POST", ["authorization"])
            bing = "https://www.bing.com/search?q=Ada+Moor+%26+co&mkt=en-US&setLang=en-US&brd_json=1&cc=us"
            assert request.json() == {"zone": "z1", "url": bing, "format": "raw"}


@pytest.mark.parametrize("name", NAMES)
async def test_misbehaving_services(serve, replies, name: str):
    async def closes_amid_the_body(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")

    for first in (replies.reply(429, retry_after="3"), replies.reply(500), replies.reply(503), closes_amid_the_body):
        server = await serve(first)
        with pytest.raises(TransientError, match=r"^Error: the search failed: "):
            await tool(name, server.url).run({"query": "x"})
        assert len(server.received) == 1
    for bad, says in (
        (replies.reply(401, b"who are you"), "status 401: who are you"),
        (replies.reply(200, b"<html>"), "not JSON"),
        (replies.reply(200, {"error": "quota"}), "no results"),
        (replies.reply(200, [1, 2]), "no results"),
        (replies.reply(200, {"results": [3], "organic": [3], "web": {"results": [3]}}), "no results"),
        (replies.reply(200, b"x" * 2**20), "longer than 0.5 MiB"),
    ):
        server = await serve(bad)
        result = await tool(name, server.url, http=HttpConfig(max_body_mb=0.5)).run({"query": "x"})
        assert result.status == "error"
        assert result.content.startswith("Error: the search failed: ")
        assert says in result.content
        assert len(server.received) == 1, "what cannot pass is not asked for again"


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_found_is_no_failure(serve, replies, name: str):
    for reply in (found(name), {"brave": {"type": "search"}, "brightdata": {"general": {}}}.get(name, found(name))):
        server = await serve(replies.reply(200, reply))
        result = await tool(name, server.url).run({"query": "x"})
        assert (result.status, result.content) == ("success", NO_RESULTS)


async def test_a_slow_service_is_given_up(serve):
    async def sleeps(*_: object) -> None:
        await asyncio.Event().wait()

    server = await serve(sleeps)
    with pytest.raises(TransientError, match=r"no whole reply within 0\.1 s"):
        await tool("searxng", server.url, http=HttpConfig(timeout_s=0.1)).run({"query": "x"})


@pytest.mark.parametrize("name", VARIABLES)
async def test_no_file_log_or_text_holds_the_key(
    serve, replies, no_waiting, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
):
    async def echoes(request, writer):  # the worst a service can do: send back the key as a result, and as an error
        status = 200 if len(server.received) == 1 else 400
        await replies.reply(status, found(name, json.dumps(request.headers)))(request, writer)

    server = await serve(echoes)
    search = tool(name, server.url)
    cache = Cache.from_config(CacheConfig(path=tmp_path / "cache.sqlite"))
    executor = ToolExecutor({"search": search}, ExecutorConfig(), cut=lambda text, _: (text, False), cache=cache)
    with caplog.at_level(logging.DEBUG):
        session = executor.open_session()
        results = [await session.call(ToolCall(name="search", arguments={"query": q})) for q in ("a", "b")]
    assert [r.status for r in results] == ["success", "error"]
    assert any(SECRET in v for v in server.received[0].headers.values())
    assert cache is not None
    cache.close()
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"T0" in files, "the result was cached"
    config = WebSearchConfig(provider=name, zone="z1" if name == "brightdata" else None)
    for text in (*(r.content for r in results), caplog.text, dump_config(config), search.version, repr(search), str(files)):
        assert SECRET not in text


@pytest.mark.parametrize("name", VARIABLES)
def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.delenv(VARIABLES[name])
    with pytest.raises(ConfigError, match=f"{name}.*{VARIABLES[name]} is not set"):
        tool(name, "http://x")
    monkeypatch.setenv("MY_KEY", SECRET)
    tool(name, "http://x", api_key_env="MY_KEY")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"provider": "searxng"}, "needs the address of your server"),
        ({"provider": "searxng", "url": "http://x", "api_key_env": "KEY"}, "has no effect"),
        ({"provider": "brightdata"}, "set zone"),
        ({"provider": "brave", "zone": "z"}, "zone = 'z'"),
        ({"provider": "bing"}, "bing"),
        ({"provider": "brave", "country": "usa"}, "country"),
        ({"provider": "brave", "url": "https://x/?key=1"}, "url"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, str], says: str):
    with pytest.raises(ConfigError, match=says):
        parse_config(WebSearchConfig, settings, "x.toml")


@pytest.mark.parametrize("status", [200, 403])
async def test_searxng_without_json_names_its_setting(serve, replies, status: int):
    server = await serve(replies.reply(status, b"<html>forbidden</html>"))
    result = await tool("searxng", server.url).run({"query": "x"})
    assert result.status == "error"
    assert "settings.yml must have search.formats: [html, json]" in result.content
