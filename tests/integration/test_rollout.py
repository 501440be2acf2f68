"""`arpo rollout`: trees without training, counted right, and a run that goes on where it was stopped."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from arpo.tree import RolloutTree, read_trees
from arpo.tree.branching_statistics import measure_branching
from arpo.tree.statistics import measure_trees


@pytest.fixture
def config(domain, tmp_path: Path) -> dict[str, Any]:
    """Six tasks, four trajectories each, two trees a file."""
    return {
        "out": str(tmp_path / "run"), "tasks": str(domain.path / "train.jsonl"), "num_tasks": 6, "num_threads": 1, "seed": 3,
        "trees_per_file": 2, "max_live_trajectories": 4, "model": {"path": str(domain.path / "cold" / "final")},
        "agent": domain.agent, "rollout": {"group_size": 4, "entropy_window": 3},
    }  # fmt: skip


def read_all(run: Path) -> list[RolloutTree]:
    return [tree for path in sorted((run / "rollouts").glob("*.zst")) for tree in read_trees(path)]


def shape(trees: list[RolloutTree]) -> dict[str, list[list[int]]]:
    return {tree.task.id: [node.token_ids for node in tree.nodes] for tree in trees}


@pytest.mark.parametrize(("rule", "num_initial"), [("mixed_outcomes", 5), ("appo", 2)])
def test_rules_need_no_training(arpo, write_toml, config: dict[str, Any], tmp_path: Path, rule: str, num_initial: int):
    """Without earlier groups every task has the prior's budget, floor(8 * 0.75 * 0.5 + 0.5) = 3; forks inside are shown too."""
    config["rollout"] |= {"group_size": 8, "rule": {"type": rule}} | ({"num_initial_trajectories": 2} if rule == "appo" else {})
    arpo.succeed("rollout", write_toml(tmp_path / "rollout.toml", config), "--show=1")
    trees = read_all(tmp_path / "run")
    assert [len(tree.leaves()) for tree in trees] == [8] * 6
    assert [tree.settings["num_initial"] for tree in trees] == [num_initial] * 6
    assert sum(node.is_branch for tree in trees for node in tree.nodes) > 0


def test_trees_are_saved_counted_and_shown(arpo, write_toml, config: dict[str, Any], tmp_path: Path):
    run = tmp_path / "run"
    result = arpo.succeed("rollout", write_toml(tmp_path / "rollout.toml", config), "--reward.rule=arpo", "--show=2")
    trees = read_all(run)
    summary = json.loads((run / "summary.json").read_text())
    assert sorted(p.name for p in (run / "rollouts").iterdir()) == [f"part_00000{i}.jsonl.zst" for i in (1, 2, 3)]
    assert len({tree.task.id for tree in trees}) == summary["num_trees"] == 6
    assert [len(tree.leaves()) for tree in trees] == [4] * 6
    assert summary["num_trajectories"] == 24
    assert summary["dropped_trees"] == 0
    found = measure_trees(trees, window=3)
    for name in ("num_branches", "branch_rate_by_turn", "tool_calls_issued", "tokens_sampled_independent"):
        assert summary[name] == found[name]
    branching = summary["branching"]
    assert branching == json.loads(json.dumps(measure_branching(trees)))
    assert branching["forks"]["num_branches"] == summary["num_branches"]
    assert branching["initial_entropy"] > 0
    assert f"{branching['initial_entropy']:.3g}" in result.stdout
    rewards = [leaf.reward.value for tree in trees for leaf in tree.leaves() if leaf.reward is not None]
    assert summary["reward_mean"] == pytest.approx(sum(rewards) / 24)
    assert summary["tokens_sampled"] <= summary["tokens_sampled_independent"]
    # the first sampled token of each trajectory from the prompt: as many as those trajectories
    assert summary["entropy_by_distance"]["before_tools"]["count"][0] == summary["num_initial"] + summary["num_topups"]
    assert trees[0].task.question in result.stdout
    assert trees[1].task.question in result.stdout
    assert f"{summary['tokens_sampled']:,}" in result.stdout
    arpo.succeed("view", run)
    page = (run / "report.html").read_text()
    assert sum(tree.task.question in page for tree in trees) >= 3  # one of each third of the files
    assert '"pieces"' in page, "the policy's own tokenizer shows single tokens"
    assert "6 rollout trees" in page


def test_without_a_reward_nothing_is_scored(arpo, write_toml, config: dict[str, Any], tmp_path: Path):
    result = arpo.succeed("rollout", write_toml(tmp_path / "rollout.toml", config | {"num_tasks": 1}), "--show=0")
    assert "reward_mean" not in json.loads((tmp_path / "run" / "summary.json").read_text())
    assert all(leaf.reward is None for tree in read_all(tmp_path / "run") for leaf in tree.leaves())
    assert "mean reward" not in result.stdout


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_stopped_run_goes_on_with_the_tasks_that_are_missing(
    arpo, write_toml, wait_until, config: dict[str, Any], tmp_path: Path, number: signal.Signals
):
    whole = arpo.succeed("rollout", write_toml(tmp_path / "whole.toml", config | {"out": str(tmp_path / "whole")}))
    run = tmp_path / "run"
    process = arpo.start("rollout", write_toml(tmp_path / "rollout.toml", config))
    wait_until(lambda: (run / "rollouts" / "part_000001.jsonl.zst").is_file())
    os.kill(process, number)
    result = arpo.wait()
    assert "Traceback" not in result.stderr
    if number is signal.SIGINT and result.code:
        assert result.code == 130
        assert f"arpo rollout --resume {run}" in result.stderr
    arpo.succeed("rollout", "--resume", run)
    assert shape(read_all(run)) == shape(read_all(tmp_path / "whole"))
    once, twice = (json.loads((r / "summary.json").read_text()) for r in (tmp_path / "whole", run))
    assert {k: v for k, v in once.items() if isinstance(v, int)} == {k: v for k, v in twice.items() if isinstance(v, int)}
    before = [p.stat().st_mtime_ns for p in sorted((run / "rollouts").iterdir())]
    arpo.succeed("rollout", "--resume", run)
    assert [p.stat().st_mtime_ns for p in sorted((run / "rollouts").iterdir())] == before, "a finished run has nothing to do"
    assert "Trees" in whole.stdout


def test_a_run_is_not_overwritten(arpo, write_toml, config: dict[str, Any], tmp_path: Path):
    path = write_toml(tmp_path / "rollout.toml", config | {"num_tasks": 1})
    arpo.succeed("rollout", path)
    result = arpo("rollout", path)
    assert result.code == 2
    assert "holds a run already" in result.stderr
    assert "another folder" in result.stderr
