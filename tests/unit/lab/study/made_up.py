"""A small finished study, written by the writers of runs and evaluations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arpo.config import dump_config, parse_config
from arpo.evaluation.records import Record, write_lines
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.configs import StudyConfigs
from arpo.lab.study.folder import Run, StudyFolder
from arpo.training.config import RlRun
from arpo.tree import NodeKind, RolloutTree, write_trees
from arpo.types import Message, Parse, Task, ToolCall, ToolResult

KEYS: dict[str, Any] = {
    "runs": [[0, 0], [1, 0]], "num_steps": 2, "checkpoint_every": 1, "budget_arm": "arpo", "compare_with": ["grpo"],
    "num_samples": 2, "num_test": 4,
    "arms": {
        "grpo": {"about": "independent", "algorithm": "grpo", "rl": {"num_steps": 3}},
        "arpo": {"about": "branches", "algorithm": "arpo"},
        "more": {"about": "imitation", "kind": "sft", "num_runs": 1},
        "late": {"about": "not run yet", "algorithm": "dapo"},
    },
    "claims": {
        "calls": {
            "about": "half the calls", "of": "arpo", "against": "grpo", "figure": "tool_calls_per_task", "measure": "ratio",
            "below": 0.55,
        },
        "accuracy": {"about": "better", "of": "arpo", "against": "grpo", "figure": "accuracy", "above": 0.0},
        "absent": {"about": "of one not there", "of": "arpo", "against": "nobody", "figure": "accuracy"},
    },
}  # fmt: skip


def study_of(**keys: Any) -> StudyConfig:
    """The study, with other keys."""
    return parse_config(StudyConfig, KEYS | keys, "test")


def write_test(where: Path, greedy: Sequence[int], sampled: Sequence[Sequence[int]] = ()) -> None:
    """A finished evaluation: right (1) or wrong, greedily and sampled, question by question."""
    rows = [_record(f"q{i}", "greedy", 0, right) for i, right in enumerate(greedy)]
    rows += [_record(f"q{i}", "sampled", k, right) for i, answers in enumerate(sampled) for k, right in enumerate(answers)]
    where.mkdir(parents=True)
    write_lines(where / "records.jsonl", rows)
    (where / "summary.json").write_text("{}")


def _record(task: str, mode: Any, sample: int, right: int) -> Record:
    return Record(
        task_id=task, mode=mode, sample=sample, question=f"{task}?", references=("a",), answer=None, extraction="boxed",
        extracted="", score=float(right), is_correct=bool(right), reason="",
        exact_match=float(right), f1=0.0, reward=0.0, format_valid=1.0,
        num_tool_calls=0, tool_calls={}, failed_tool_calls={}, num_sampled_tokens=10, groups={}, response="",
    )  # fmt: skip


def write_training(study: StudyConfig, folder: StudyFolder, arm: str, run: Run, calls: Sequence[int]) -> Path:
    """A finished training that issued so many calls in each step, half of them executed, with trees at the first step."""
    where = folder.training(arm, run, None)
    where.mkdir(parents=True)
    keys = StudyConfigs(study, folder, 1).training(arm, run, None)
    (where / "config.toml").write_text(dump_config(parse_config(RlRun, keys, "test")))
    rows = [_row(step, issued) for step, issued in enumerate(calls, start=1)]
    (where / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (where / "summary.json").write_text("{}")
    (where / "rollouts").mkdir()
    write_trees(where / "rollouts" / "step_000001.jsonl.zst", [tree()])
    return where


def _row(step: int, issued: int) -> dict[str, float]:
    return {
        "step": step, "rollout/tool_calls_issued": issued, "rollout/tool_calls_executed": issued // 2,
        "rollout/num_branches": 4, "rollout/num_opportunities": 16, "rollout/num_initial": 64, "rollout/num_topups": 8,
        "rollout/tool_calls_per_trajectory": 2.0, "rollout/tokens_sampled": 10 * issued,
        "rollout/distinct_answers_per_task": 3.0 + step, "rollout/distinct_call_sequences_per_task": 5.0,
        "rollout/mixed_group_rate": 0.5, "train/tokens_unique": 100, "train/tokens_total": 150,
        "train/updates": 0 if step == 2 else 2, "train/entropy": 0.1 * step,
        "train/clip_fraction_low": 0.01 * step, "train/clip_fraction_high": 0.02, "time/step_s": 1.0, "time/update_s": 0.5,
    }  # fmt: skip


def tree() -> RolloutTree:
    """A call of search, its result, a call of Python, its result, an answer; entropies 0.1, 0.3, then 0.6, then 0.2."""
    made = RolloutTree.from_prompt(
        Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="world", ability="search"), [1, 2]
    )
    first = made.append(made.root, NodeKind.COMPLETION, [3, 4], entropies=[0.1, 0.3], parse=_call("search"))
    read = made.append(first, NodeKind.OBSERVATION, [5], results=(ToolResult(content="p"),))
    second = made.append(read, NodeKind.COMPLETION, [6], entropies=[0.6], parse=_call("python"))
    ran = made.append(second, NodeKind.OBSERVATION, [7], results=(ToolResult(content="1"),))
    made.append(ran, NodeKind.COMPLETION, [8], entropies=[0.2], parse=Parse(answer="a"))
    return made


def _call(name: str) -> Parse:
    return Parse(calls=(ToolCall(name=name, arguments={"query": "x"}),))
