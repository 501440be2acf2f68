"""Records of answers and the figures that follow from them alone."""

from dataclasses import replace

import pytest

from arpo.evaluation.records import Mode, Record, make_record, summarize
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Parse, StopReason, Task, ToolResult


def record(task: str, mode: Mode, sample: int, right: float, **fields: object) -> Record:
    plain = Record(
        task_id=task, mode=mode, sample=sample, question="?", references=("a",), answer=None, exact_match=right, f1=right,
        reward=right, format_valid=1.0, reason="", num_tool_calls=0, num_sampled_tokens=10, kind=None, never_seen=None,
        response="",
    )  # fmt: skip
    return replace(plain, **fields)  # pyright: ignore[reportArgumentType]


def test_a_record_says_what_the_trajectory_was() -> None:
    task = Task(
        id="t", messages=(Message(role="user", content="Where?"),), references=("Kelford",), source="s",
        extra={"kind": "birthplace", "never_seen": True},
    )  # fmt: skip
    tree = RolloutTree.from_prompt(task, [1, 2])
    call = tree.append(tree.root, NodeKind.COMPLETION, [3, 4], text="<search>", stop_reason=StopReason.STOP_STRING)
    seen = tree.append(call, NodeKind.OBSERVATION, [5], text="found", tool_result=ToolResult(content="found"))
    leaf = tree.append(seen, NodeKind.COMPLETION, [6, 7, 8], text="Kelford", parse=Parse(answer="Kelford"))
    leaf.reward, leaf.reward_components, leaf.reward_reason = 1.0, {"exact_match": 1.0, "f1": 0.5, "format": 1.0}, "right"
    assert make_record(tree.trajectory(leaf), "sampled", 3) == Record(
        task_id="t", mode="sampled", sample=3, question="Where?", references=("Kelford",), answer="Kelford", exact_match=1.0,
        f1=0.5, reward=1.0, format_valid=1.0, reason="right", num_tool_calls=1, num_sampled_tokens=5, kind="birthplace",
        never_seen=True, response="<search>foundKelford",
    )  # fmt: skip


def test_a_trajectory_without_answer_or_parse_has_none() -> None:
    task = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, [1])
    leaf = tree.append(tree.root, NodeKind.COMPLETION, [2])
    found = make_record(tree.trajectory(leaf), "greedy", 0)
    assert (found.answer, found.exact_match, found.kind, found.never_seen) == (None, 0.0, None, None)


def test_greedy_figures() -> None:
    records = [
        record("a", "greedy", 0, 1.0, kind="x", never_seen=True, num_tool_calls=2, num_sampled_tokens=20),
        record("b", "greedy", 0, 0.0, kind="x", never_seen=False, format_valid=0.0),
        record("c", "greedy", 0, 1.0, kind="y", never_seen=False, num_tool_calls=1),
        record("d", "greedy", 0, 0.0),
    ]
    summary = summarize(records)
    assert summary["num_tasks"] == 4
    assert summary["exact_match"] == 2 / 4
    assert summary["format_valid_rate"] == 3 / 4
    assert summary["tool_calls_per_task"] == 3 / 4
    assert summary["tokens_per_answer"] == (20 + 10 + 10 + 10) / 4
    assert summary["by_kind"] == {"x": {"exact_match": 0.5, "num_tasks": 2}, "y": {"exact_match": 1.0, "num_tasks": 1}}
    assert summary["never_seen"] == {
        "false": {"exact_match": 0.5, "num_tasks": 2}, "true": {"exact_match": 1.0, "num_tasks": 1}
    }  # fmt: skip
    assert "pass_at_k" not in summary


def test_sampled_figures_leave_the_greedy_ones_alone() -> None:
    # task a: 1 of 4 right, task b: 4 of 4; k = 4: each has a right one; mean exact match 5/8
    records = [record(t, "greedy", 0, 0.0) for t in "ab"]
    records += [record("a", "sampled", i, float(i == 2)) for i in range(4)]
    records += [record("b", "sampled", i, 1.0) for i in range(4)]
    summary = summarize(records)
    assert (summary["exact_match"], summary["k"], summary["sampled_exact_match"], summary["pass_at_k"]) == (0.0, 4, 0.625, 1.0)


def test_partly_right_is_not_right_for_pass_at_k() -> None:
    records = [record("a", "greedy", 0, 1.0), record("a", "sampled", 0, 0.99), record("a", "sampled", 1, 0.0)]
    assert summarize(records)["pass_at_k"] == pytest.approx(0.0)
