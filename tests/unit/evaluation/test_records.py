"""Records of answers, and their files."""

import json
from pathlib import Path

import pytest

from arpo.errors import DataError
from arpo.evaluation.records import AnswerTime, make_record, read_records, read_times, tree_times, write_lines
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Parse, Reward, StopReason, Task, ToolCall, ToolResult

from .made_up import record


def make_tree() -> RolloutTree:
    task = Task(
        id="t", messages=(Message(role="user", content="Where?"),), references=("Kelford",), source="s",
        extra={"kind": "birthplace", "never_seen": True, "other": 1},
    )  # fmt: skip
    tree = RolloutTree.from_prompt(task, [1, 2])
    calls = (ToolCall(name="search", arguments={"query": "x"}), ToolCall(name="python", arguments={"code": "y"}))
    call = tree.append(
        tree.root, NodeKind.COMPLETION, [3, 4], text="<search>", stop_reason=StopReason.STOP_STRING,
        parse=Parse(calls=calls),
    )  # fmt: skip
    results = (ToolResult(content="found", seconds=0.25), ToolResult(content="", status="error", seconds=0.5))
    seen = tree.append(call, NodeKind.OBSERVATION, [5], text="found", results=results)
    leaf = tree.append(seen, NodeKind.COMPLETION, [6, 7, 8], text="Kelford", parse=Parse(answer="so \\boxed{Kelford}"))
    components = {"exact_match": 1.0, "f1": 0.5, "format": 1.0}
    leaf.reward = Reward(value=1.0, is_correct=True, components=components, reason="right")
    tree.seconds = 2.0
    return tree


def test_a_record_says_what_the_trajectory_was() -> None:
    tree = make_tree()
    found = make_record(tree.trajectories()[0], "sampled", 3)
    assert found == record(
        "t", "sampled", 3, 1.0, question="Where?", references=("Kelford",), answer="so \\boxed{Kelford}", extraction="boxed",
        extracted="Kelford", f1=0.5, reason="right", num_tool_calls=2, tool_calls={"python": 1, "search": 1},
        failed_tool_calls={"python": 1}, num_sampled_tokens=5, groups={"kind": "birthplace", "never_seen": "true"},
        response="<search>foundKelford",
    )  # fmt: skip
    assert make_record(tree.trajectories()[0], "sampled", 3, "f1").score == 0.5
    assert tree_times(tree, "greedy") == [AnswerTime(task_id="t", mode="greedy", sample=0, seconds=2.0, tool_seconds=0.75)]


def test_a_trajectory_without_answer_or_parse_has_none() -> None:
    task = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, [1])
    leaf = tree.append(tree.root, NodeKind.COMPLETION, [2])
    found = make_record(tree.trajectory(leaf), "greedy", 0)
    assert (found.answer, found.extraction, found.extracted) == (None, "none", "")
    assert (found.score, found.exact_match, found.groups) == (None, 0.0, {})


def test_files_give_back_what_was_written(tmp_path: Path) -> None:
    records = [record("ä\n", "greedy", 0, 1.0, tool_calls={"search": 2}), record("b", "sampled", 1, None)]
    times = tree_times(make_tree(), "greedy")
    write_lines(tmp_path / "records.jsonl", records)
    write_lines(tmp_path / "times.jsonl", times)
    assert read_records(tmp_path) == records
    assert read_times(tmp_path) == times


def test_no_records_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"arpo eval --resume {tmp_path}"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"), [("{", "no JSON"), ("[1]", "arpo eval --resume"), ('{"task_id": "t"}', "arpo eval --resume")]
)
def test_another_file_is_refused_with_the_line(tmp_path: Path, line: str, said: str) -> None:
    write_lines(tmp_path / "records.jsonl", [record("a", "greedy", 0, 1.0)])
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=f"line 2: .*{said}"):
        read_records(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(json.dumps({"a": "é"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_records(tmp_path)
