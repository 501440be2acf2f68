"""A whole rollout, recorded with real search over HTTP and a real sandbox, replays with server, index and sandbox gone."""

import asyncio
import json
import shutil
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from arpo.config import parse_config
from arpo.errors import ToolError
from arpo.inference.scripted import ScriptedEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.build import build_agent
from arpo.rollout.config import AgentConfig, ArpoRuleConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner
from arpo.tools.python_sandbox import describe_isolation
from arpo.tools.recorded import RecordedTool
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.index import build_index
from arpo.tools.search.local import LocalIndex
from arpo.tools.search.serve import RetrieverServer
from arpo.types import Message, Task

TASK = Task(id="1", messages=(Message(role="user", content="question 1"),), references=("a",), source="test")
TURNS = (
    "<search> Ada Moor </search>",
    "<python> import time; x = time.time_ns(); x </python>",
    "<search> nobody of this name </search>",
    "<python> x % 1000, 1 / 0 </python>",
    "<answer> a </answer>",
)


def turn(text: str) -> str:
    return TURNS[text.split("question 1")[1].count("</result>")]


def grow(config: AgentConfig, tokenizer: PolicyTokenizer, script: Any = turn) -> tuple[list[Any], set[type]]:
    """What the one tree's nodes hold that a policy read or wrote, and the classes of the tools."""

    async def run() -> tuple[list[Any], set[type]]:
        agent = build_agent(config, ScriptedEngine(script, tokenizer), tokenizer)
        rule = ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.0)  # branches wherever it may
        rollout = RolloutConfig(group_size=4, num_initial_trajectories=2, rule=rule)
        try:
            runner = RolloutRunner(agent, rollout, max_live_groups=1)
            (tree,) = [tree async for tree in runner.sample([TASK], seed=1)]
        finally:
            await agent.environment.aclose()
        results = [[(r.content, r.status) for r in n.results] for n in tree.nodes]
        nodes = [(n.parent, n.kind, n.token_ids, n.text, n.is_branch, r) for n, r in zip(tree.nodes, results, strict=True)]
        return nodes, {type(tool) for tool in agent.environment.tools.values()}

    return asyncio.run(run())


@pytest.mark.skipif(not any(works for _, works, _ in describe_isolation()), reason="no isolation works here")
def test_a_recorded_rollout_replays_byte_for_byte_with_server_index_and_sandbox_gone(
    tmp_path: Path, tokenizer: PolicyTokenizer
):
    corpus, index = tmp_path / "corpus.jsonl", tmp_path / "index"
    corpus.write_text(json.dumps({"title": "Ada Moor", "text": "Ada Moor was born in Kelford."}) + "\n")
    build_index([corpus], index)
    cache = tmp_path / "cache.sqlite"

    def config(mode: str, url: str) -> AgentConfig:
        return parse_config(
            AgentConfig,
            {
                "protocol": {"tools": ["search", "python"]},
                "limits": {"max_trajectory_tokens": 4096},
                "tools": {
                    "search": {"type": "http", "url": url},
                    "python": {"mode": "session", "preload": []},
                    "cache": {"path": str(cache), "mode": mode},
                },
            },
            "test",
        )

    server = RetrieverServer(LocalIndex(LocalSearchConfig(index=index)), "127.0.0.1", 0, top_k=3)
    thread = Thread(target=server.run)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.port}/retrieve"
        recorded, _ = grow(config("record", url), tokenizer)
    finally:
        server.stop()
        thread.join()
    shutil.rmtree(index)
    replayed, classes = grow(config("replay", url), tokenizer)
    assert replayed == recorded
    assert classes == {RecordedTool}
    contents = [content for *_, results in recorded for content, _ in results]
    assert any("Kelford" in content for content in contents), contents
    assert any(content.startswith("ZeroDivisionError") for content in contents)
    assert any(is_branch for *_, is_branch, _ in recorded)
    with pytest.raises(ToolError, match="no recording of the call search"):
        grow(config("replay", url), tokenizer, lambda text: "<search> another </search>")
