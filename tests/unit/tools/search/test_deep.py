"""The deep search pipeline, on local servers: a search service, the pages it names, and a summarising model."""

import json
from typing import Any

import pytest

from arpo.config import load_config
from arpo.tools.base import Tool
from arpo.tools.build import build_tools
from arpo.tools.config import ToolsConfig

FILLER = "Nothing of importance is said in this sentence about weather. " * 40


@pytest.fixture
async def world(serve, replies) -> Any:
    """A service that finds three pages: a long one, one that is missing, and a private one that is refused."""

    async def site(request, writer):
        text = f"<p>{FILLER}</p><p>Ada Moor founded Kelford in 1412.</p><p>{FILLER}</p>"
        page = f"<html><title>Kelford</title><body><article>{text}</article></body></html>".encode()
        good = request.target == "/kelford"
        await replies.reply(200 if good else 404, page, content_type="text/html")(request, writer)

    pages = await serve(site)
    hits = [
        {"title": "Kelford", "content": "... Ada Moor founded Kelford ...", "url": f"{pages.url}/kelford"},
        {"title": "Gone", "content": "A lost page.", "url": f"{pages.url}/gone"},
        {"title": "Router", "content": "Admin page.", "url": f"http://localhost:{pages.port}/admin"},
    ]
    service = await serve(replies.reply(200, {"results": hits}))
    return service, pages


def deep(url: str, **settings: Any) -> Any:
    section = {"type": "deep", "provider": "searxng", "url": url, "fetch": {"allowed_hosts": ["127.0.0.1"]}, **settings}
    return build_tools(ToolsConfig.model_validate({"search": section}))["search"]


async def test_pages_are_read_around_their_snippets(world: Any):
    service, pages = world
    tool = deep(service.url, context_chars=300, top_k=5)
    assert isinstance(tool, Tool)
    result = await tool.run({"query": "who founded Kelford"})
    lines = result.content.splitlines()
    assert "Ada Moor founded Kelford in 1412." in lines[0]
    assert lines[0].count("weather") > 1, "what surrounds the snippet is kept"
    assert len(lines[0]) < len("Page 1: ") + 300 + 1
    assert lines[1] == "Page 2: Gone: A lost page. (The page cannot be read; this is its snippet.)"
    assert lines[2] == "Page 3: Router: Admin page. (The page cannot be read; this is its snippet.)"
    assert result.truncated
    assert sorted(r.target for r in pages.received) == ["/gone", "/kelford"], "the private address was not reached"


async def test_the_summary_is_made_for_the_task_s_question(world: Any, serve, replies):
    service, _ = world
    model = await serve(replies.reply(200, {"choices": [{"message": {"content": "Ada Moor (document 1)."}}]}))
    tool = deep(service.url, summary={"base_url": model.url, "model": "m"}, format="json")
    arguments = {"query": "Kelford founder", "question": "In which year was Kelford founded, and by whom?"}
    assert (await tool.run(arguments)).content == "Ada Moor (document 1)."
    asked = model.received[0].json()["messages"][1]["content"]
    question, _, documents = asked.partition("Documents:\n\n")
    assert (
        question == "Question: In which year was Kelford founded, and by whom?\n\nJust now they looked for: Kelford founder\n\n"
    )
    rows = [json.loads(line) for line in documents.splitlines()]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert "1412" in rows[0]["text"]
    await tool.run({"query": "Kelford founder"})
    assert model.received[1].json()["messages"][1]["content"].startswith("Question: Kelford founder\n\nDocuments:")
    assert "question" in tool.schema["properties"]
    assert "question" not in deep(service.url).schema["properties"]
    assert tool.version != deep(service.url).version
    await tool.aclose()


async def test_a_failed_search_or_model_is_a_failed_call_and_no_hits_are_none(world: Any, serve, replies):
    service, _ = world
    broken = await serve(replies.reply(403, b"no"))
    for tool in (deep(broken.url), deep(service.url, summary={"base_url": broken.url, "model": "m"})):
        result = await tool.run({"query": "x"})
        assert result.status == "error"
        assert "status 403: no" in result.content
    nothing = await serve(replies.reply(200, {"results": []}))
    result = await deep(nothing.url, summary={"base_url": broken.url, "model": "m"}).run({"query": "x"})
    assert (result.status, result.content) == ("success", "No search results found.")
    assert (await deep(service.url).run({"query": " "})).status == "error"


def test_its_keys_are_those_of_the_web_search_and_its_own():
    config = load_config(ToolsConfig, None, ["search.type=deep", "search.provider=searxng", "search.url=http://s"])
    assert config.search is not None
    assert (config.search.type, config.search.top_k) == ("deep", 10)
