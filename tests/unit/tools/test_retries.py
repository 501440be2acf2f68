"""Retries are the executor's alone: however a tool reaches its server, `executor.retries` says how often it is asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.tools.build import build_tools
from arpo.tools.config import ExecutorConfig, ToolsConfig
from arpo.tools.executor import ToolExecutor
from arpo.tools.search.index import build_index
from arpo.types import ToolCall

PAGE = b"<html><body><article><p>Kelford is a town of sixty houses by the river Ashe.</p></article></body></html>"
SUMMARY = {"choices": [{"message": {"content": "A town."}, "finish_reason": "stop"}]}
FETCH = {"allowed_hosts": ["127.0.0.1"]}


@pytest.fixture
def index(tmp_path: Path) -> str:
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "1", "title": "Kelford", "text": "A town."}) + "\n")
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    return str(tmp_path / "index")


def case(name: str, url: str, index: str, page: str) -> tuple[dict[str, Any], ToolCall]:
    """A section of tools whose server is at `url`, and a call that reaches it."""
    model = {"base_url": url, "model": "m"}
    search, browse = ToolCall(name="search", arguments={"query": "town"}), ToolCall(name="browse", arguments={"url": url})
    match name:
        case "http":
            return {"search": {"type": "http", "url": url}}, search
        case "web":
            return {"search": {"type": "web", "provider": "searxng", "url": url}}, search
        case "deep":
            return {"search": {"type": "deep", "provider": "searxng", "url": url, "fetch": FETCH}}, search
        case "summary":
            return {"search": {"index": index, "summary": model}}, search
        case "browse":
            return {"browse": {"fetch": FETCH}}, browse
    asked = ToolCall(name="browse", arguments={"url": page, "question": "What is it?"})
    return {"browse": {"fetch": FETCH, "summary": model}}, asked


GOOD = {
    "http": {"result": [[{"id": "1", "contents": "Kelford\nA town."}]]},
    "web": {"results": [{"title": "Kelford", "content": "A town.", "url": "http://127.0.0.1:1/"}]},
    "deep": {"results": [{"title": "Kelford", "content": "A town.", "url": "http://127.0.0.1:1/"}]},
    "summary": SUMMARY,
    "browse": PAGE,
    "browse summary": SUMMARY,
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    ("num_failures", "retries", "expected"),
    [(1, 2, ("success", 2, 1)), (1, 0, ("error", 1, 0)), (99, 2, ("error", 3, 2))],
    ids=["passes", "no retries", "stays down"],
)
async def test_a_busy_server_is_asked_as_often_as_the_executor_says(
    serve, replies, no_waiting, index: str, name: str, num_failures: int, retries: int, expected: tuple[str, int, int]
):
    down = replies.reply(503, b"busy", retry_after="3")
    server = await serve(replies.in_turn(*[down] * num_failures, replies.reply(200, GOOD[name], content_type="text/html")))
    page = await serve(replies.reply(200, PAGE, content_type="text/html"))
    section, call = case(name, server.url, index, page.url)
    config = ExecutorConfig(retries=retries)
    executor = ToolExecutor(build_tools(ToolsConfig.model_validate(section)), config, cut=lambda text, _: (text, False))
    result = await executor.open_session().call(call)
    assert (result.status, len(server.received), executor.counts.retries) == expected
    assert no_waiting == [3.0] * executor.counts.retries, "as long as the server asks"
    assert "own" in result.content if result.status == "success" else "status 503" in result.content
    await executor.aclose()


@pytest.mark.parametrize("section", ["search", "search.summary", "browse.summary"])
def test_a_tool_has_no_retries_of_its_own(section: str):
    keys = {"search": {"type": "http"}, "browse": {}}
    tool, _, model = section.partition(".")
    keys[tool] |= {"summary": {"base_url": "http://h/v1", "model": "m", "http": {"max_retries": 1}}} if model else {}
    keys[tool] |= {} if model else {"http": {"max_retries": 1}}
    with pytest.raises(ConfigError, match=rf"{section.split('.')[0]}.*max_retries"):
        parse_config(ToolsConfig, keys, "x.toml")
