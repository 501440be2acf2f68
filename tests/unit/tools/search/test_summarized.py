"""Search over a local index whose pages a model on a local server condenses."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.errors import ConfigError
from arpo.tools.base import is_local
from arpo.tools.build import build_tools
from arpo.tools.config import ToolsConfig
from arpo.tools.search.hits import NO_RESULTS
from arpo.tools.search.index import build_index


@pytest.fixture
def section(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "1", "title": "Ada Moor", "text": "Born in Kelford."}) + "\n")
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    return {"index": str(tmp_path / "index")}


def search(section: dict[str, Any], url: str, **settings: Any) -> Any:
    summary = {"base_url": url, "model": "m", **settings}
    return build_tools(ToolsConfig.model_validate({"search": section | {"summary": summary}}))["search"]


async def test_the_model_gets_the_question_the_query_and_the_pages(section: dict[str, Any], serve, replies):
    reply = {"choices": [{"message": {"content": " Kelford (document 1). "}, "finish_reason": "length"}]}
    model = await serve(replies.reply(200, reply))
    tool = search(section, model.url)
    result = await tool.run({"query": "ada moor", "question": "Where was Ada Moor born?"})
    assert (result.content, result.truncated) == ("Kelford (document 1).", True)
    assert model.received[0].json()["messages"][1]["content"] == (
        "Question: Where was Ada Moor born?\n\nJust now they looked for: ada moor\n\n"
        "Documents:\n\nPage 1: Ada Moor: Born in Kelford."
    )
    assert not is_local(tool), "its results come from a model elsewhere"
    plain = build_tools(ToolsConfig.model_validate({"search": section}))["search"]
    assert tool.version != plain.version != search(section, model.url, model="other").version
    await tool.aclose()


async def test_what_found_nothing_or_failed_costs_no_request(section: dict[str, Any], serve, replies):
    broken = await serve(replies.reply(403, b"no"))
    tool = search(section, broken.url)
    assert (await tool.run({"query": "zebra"})).content == NO_RESULTS
    assert (await tool.run({"query": " "})).status == "error"
    assert broken.received == []
    result = await tool.run({"query": "ada"})
    assert (result.status, result.content.startswith("Error: the search failed: tools.search.summary: ")) == ("error", True)


def test_the_key_comes_from_the_environment(section: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SUMMARY_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"tools\.search\.summary: the environment variable SUMMARY_KEY is not set"):
        search(section, "http://h/v1", api_key_env="SUMMARY_KEY")
