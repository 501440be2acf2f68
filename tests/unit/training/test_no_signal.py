"""A run that learns nothing says so, with the reason; a healthy one says nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.config import parse_config
from arpo.tracking.progress import SilentProgress
from arpo.training.config import RlRun
from arpo.training.no_signal import MAX_SAMPLE_CHARS, find_no_signal, is_reported, learned_nothing
from arpo.training.rl import train_rl
from arpo.tree import Trajectory


class Lines(SilentProgress):
    """Keeps what is reported in lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def train(policy: Path, tmp_path: Path):
    """Trains the random policy, which writes no format, for some steps of two tasks with two trajectories each."""

    def run(num_steps: int, reward: Any = None, **changes: Any) -> tuple[dict[str, Any], list[str], list[dict[str, Any]]]:
        rows = [json.dumps({"question": question, "answer": "2"}) + "\n" for question in ("1+1", "4-2")]
        (tmp_path / "t.jsonl").write_text("".join(rows))
        limits = {"max_turn_tokens": 8, "max_trajectory_tokens": 64}
        section = {
            "out": str(tmp_path / "run"), "tasks": str(tmp_path / "t.jsonl"), "num_steps": num_steps, "tasks_per_step": 2,
            "model": {"path": str(policy)}, "optimizer": {"learning_rate": 1e-6}, "rollout": {"group_size": 2},
            "agent": {"protocol": {"system_prompt": "", "tools": []}, "limits": limits},
        } | changes  # fmt: skip
        progress = Lines()
        summary = train_rl(parse_config(RlRun, section, "test"), progress, reward_fn=reward)
        metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        return summary, [line for line in progress.lines if line.startswith("nothing was learned")], metrics

    return run


def test_a_policy_whose_format_fails_is_reported_after_three_steps_and_at_the_end(train, tmp_path: Path):
    """Five steps of four trajectories, each malformed and so -1: told after step 3 of 12 trajectories, at the end of 20."""
    summary, (early, last), rows = train(5)
    assert early.startswith("nothing was learned in steps 1 to 3")
    assert last.startswith("nothing was learned in steps 1 to 5")
    assert [row["train/updates"] for row in rows] == [0] * 5
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["no_signal"]
    assert found == json.loads(json.dumps(summary["no_signal"]))
    assert (found["first_step"], found["last_step"], found["num_trajectories"], found["num_malformed"]) == (1, 5, 20, 20)
    assert (found["reward_min"], found["reward_max"]) == (-1.0, -1.0)
    assert found["faults"]["no_answer"] == sum(row["fault/no_answer"] for row in rows) == 20
    assert found["num_truncated"] == sum(round(row["rollout/truncated_rate"] * 4) for row in rows)
    assert "rewards: -1 for every trajectory" in last
    assert "no_answer 20" in last
    assert "no_answer 12" in early
    assert "1+1" in found["sample"] or "4-2" in found["sample"], "the trajectory is shown with its prompt"
    assert all(f"| {line}" in last for line in found["sample"].splitlines())
    assert "no_answer" in found["sample_of"]
    assert any("arpo sft" in advice for advice in found["advice"])
    assert all(f"try: {advice}" in last for advice in found["advice"])


def test_a_run_shorter_than_three_steps_says_it_at_the_end(train):
    _, lines, _ = train(1)
    assert [line.splitlines()[0][:29] for line in lines] == ["nothing was learned in step 1"]


def test_a_healthy_run_says_nothing(train):
    """Rewards of 0 and 1 in every group."""
    counter = iter(range(100))

    def alternate(trajectory: Trajectory) -> float:
        return float(next(counter) % 2)

    summary, lines, rows = train(4, alternate)
    assert lines == []
    assert summary["no_signal"] is None
    assert [row["rollout/reward_zero_std_rate"] for row in rows] == [0.0] * 4


def row(step: int, *, is_silent: bool, **more: float) -> dict[str, Any]:
    return {
        "step": step, "train/groups": 2, "train/groups_zero_advantage": 2 if is_silent else 1, "rollout/num_trajectories": 4,
        "rollout/reward_min": 0.0, "rollout/reward_max": 1.0, "rollout/reward_mean": 0.5, "rollout/truncated_rate": 0.25,
    } | more  # fmt: skip


def stretches(silent: str) -> list[int]:
    """Steps after which a run is reported, one letter per step: `s` silent, `.` not."""
    rows = [row(i, is_silent=letter == "s") for i, letter in enumerate(silent, start=1)]
    return [n for n in range(1, len(rows) + 1) if is_reported(rows[:n])]


def test_each_stretch_without_signal_is_told_once():
    assert stretches("ss.ss.") == []
    assert stretches("sss") == stretches("ssssss") == [3]
    assert stretches(".sss.ssss") == [4, 8]


def test_the_end_of_a_run_counts_its_last_steps():
    def ends(silent: str) -> bool:
        return learned_nothing([row(i, is_silent=letter == "s") for i, letter in enumerate(silent, start=1)])

    assert [ends(s) for s in ("", ".", "s", "ss", ".ss", ".sss", "sss.")] == [False, False, True, True, False, True, False]


def test_counts_are_of_the_latest_stretch_and_causes_give_advice():
    """Steps 2 and 3: 8 trajectories, 2 cut; 6 searches of which 1 + 2 failed, half of them; equal rewards within groups."""
    tool = {"tool/search/calls": 2, "tool/search/success_rate": 0.5, "fault/unclosed_think": 1, "fault/no_answer": 2}
    later = tool | {"tool/search/calls": 4}
    rows = [row(1, is_silent=False, **tool), row(2, is_silent=True, **tool), row(3, is_silent=True, **later)]
    found = find_no_signal(rows)
    assert (found.first_step, found.num_trajectories, found.num_truncated) == (2, 8, 2)
    assert found.faults == {"no_answer": 4, "unclosed_think": 2}
    assert (found.tool_calls, found.tool_errors) == ({"search": 6}, {"search": 3})
    assert "rewards: 0 to 1, mean 0.5, equal within each group" in found.describe()
    assert "failed: search 3 of 6" in found.describe()
    assert any("arpo tool call search" in advice for advice in found.advice)
    assert found.num_malformed is None
    alone = find_no_signal(rows, group_size=1)
    assert ["group_size" in advice for advice in alone.advice] == [True]
    solved = [row(i, is_silent=True, **{"rollout/accuracy": 1.0}) for i in (1, 2, 3)]
    assert any("harder tasks" in advice for advice in find_no_signal(solved).advice)
    cut = [row(i, is_silent=True, **{"rollout/truncated_rate": 0.75}) for i in (1, 2, 3)]
    assert any("max_turn_tokens" in advice for advice in find_no_signal(cut).advice)


def test_only_a_very_long_sample_is_shortened(make_tree):
    tree = make_tree()
    rows = [row(1, is_silent=True)]
    tree.root.text = "q" * 100
    assert "left out" not in find_no_signal(rows, tree=tree).sample
    tree.root.text = "q" * (3 * MAX_SAMPLE_CHARS)
    sample = find_no_signal(rows, tree=tree).sample
    assert len(sample) < MAX_SAMPLE_CHARS + 60
    assert "characters left out" in sample


def test_what_a_policy_wrote_cannot_steer_the_terminal(make_tree):
    tree = make_tree()
    tree.root.text = "a\x1b[2Jb\r\n\tc"
    assert find_no_signal([row(1, is_silent=True)], tree=tree).sample.startswith("a\\x1b[2Jb\\r\n\tc")
