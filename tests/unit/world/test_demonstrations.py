"""Demonstrations of a small world through the real loop: index, sandbox, protocol and reward."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.config import parse_config
from arpo.data.conversations import encode_conversation, read_conversations
from arpo.data.tasks import read_tasks
from arpo.errors import RunError, ToolError
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig
from arpo.tools.search.index import build_index
from arpo.world.config import DemosRun, WorldConfig
from arpo.world.demonstrations import write_demos
from arpo.world.make import make_world

NUM_TASKS = 40
HONEST = {"vague_query": 0.0, "trust_almanac": 0.0, "give_up": 0.0, "stop_early": 0.0, "guess": 0.0}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, qwen_directory: Path) -> dict[str, Any]:
    try:
        PythonSandbox(PythonSandboxConfig())
    except ToolError as error:
        pytest.skip(str(error))
    world = tmp_path_factory.mktemp("world")
    make_world(
        WorldConfig(num_persons=160, num_companies=80, num_cities=120, num_train=NUM_TASKS, num_valid=20, num_test=20), world
    )
    build_index([world / "corpus.jsonl"], world / "index")
    return {
        "tasks": world / "train.parquet", "num_tasks": NUM_TASKS, "model": qwen_directory,
        "agent": {
            "protocol": {"system_prompt": ""}, "limits": {"max_turn_tokens": 512, "max_trajectory_tokens": 8192},
            "tools": {"executor": {"max_calls": 12}, "python": {}, "search": {"index": world / "index", "top_k": 3}},
        },
    }  # fmt: skip


def demos(settings: dict[str, Any], out: Path, **habits: float) -> dict[str, Any]:
    return write_demos(parse_config(DemosRun, settings | {"out": out, "demonstrator": habits}, "test"))


def test_an_honest_demonstrator_is_right_and_well_formed(settings: dict[str, Any], tmp_path: Path):
    summary = demos(settings, tmp_path / "demos", **HONEST)
    assert summary["num_conversations"] == NUM_TASKS
    assert summary["format_valid_rate"] == 1
    assert summary["accuracy"] >= 0.95
    assert json.loads((tmp_path / "demos" / "summary.json").read_text()) == summary


def test_what_it_writes_is_what_sft_reads(settings: dict[str, Any], tmp_path: Path):
    """Every conversation is usable, in the order of the tasks, and its answers are as right as the summary says."""
    summary = demos(settings, tmp_path / "demos")
    file = read_conversations(tmp_path / "demos" / "conversations.jsonl")
    assert file.bad_rows == []
    tasks = read_tasks(settings["tasks"]).tasks
    assert [c.task_messages for c in file.conversations] == [t.messages for t in tasks]
    tokenizer = PolicyTokenizer.load(settings["model"])
    protocol = TagProtocol(tokenizer, TagProtocolConfig(system_prompt=""))
    num_right, num_calls = 0, 0
    for conversation, task in zip(file.conversations, tasks, strict=True):
        token_ids, mask = encode_conversation(conversation, protocol, tokenizer)
        assert len(token_ids) == len(mask)
        assert any(mask)
        num_right += any(f"\\boxed{{ {reference}}}" in conversation.turns[-1].content for reference in task.references)
        num_calls += sum(turn.role == "tool" for turn in conversation.turns)
    assert num_right / NUM_TASKS == pytest.approx(summary["accuracy"])
    assert num_calls / NUM_TASKS == pytest.approx(summary["tool_calls_per_task"])


def test_habits_cost_accuracy(settings: dict[str, Any], tmp_path: Path):
    honest = demos(settings, tmp_path / "honest", **HONEST)
    hasty = demos(settings, tmp_path / "hasty", **HONEST | {"stop_early": 1})
    assert hasty["accuracy"] < honest["accuracy"]
    assert hasty["tool_calls_per_task"] < honest["tool_calls_per_task"]
    assert hasty["format_valid_rate"] == 1, "imperfect in what it does, not in form"


def test_the_same_seed_writes_the_same_bytes(settings: dict[str, Any], tmp_path: Path):
    few = settings | {"num_tasks": 10}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        demos(few | {"seed": seed}, tmp_path / name)
    a, b, c = ((tmp_path / name / "conversations.jsonl").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_folder_that_holds_demonstrations_is_left_alone(settings: dict[str, Any], tmp_path: Path):
    demos(settings | {"num_tasks": 2}, tmp_path / "demos")
    with pytest.raises(RunError, match="not empty"):
        demos(settings, tmp_path / "demos")
