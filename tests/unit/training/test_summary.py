from pathlib import Path

import pytest

from arpo.config import parse_config
from arpo.training.checkpoint import TrainerState
from arpo.training.config import RlRun
from arpo.training.summary import broken_tools, live_line, summarize_run


@pytest.fixture
def config() -> RlRun:
    return parse_config(RlRun, {"out": Path("o"), "model": {"path": "m"}, "tasks": "t", "agent": {}, "seed": 3}, "test")


def row(branches: int, opportunities: int, **more: float) -> dict[str, float]:
    return {"rollout/num_branches": branches, "rollout/num_opportunities": opportunities, **more}


def test_rates_are_of_the_whole_run_and_means_of_its_steps(config: RlRun):
    """4 branches at 10 opportunities, not the mean of 3/4 and 1/6; entropies 0.1 and 0.3."""
    rows = [row(3, 4, **{"rollout/entropy_after_tool": 0.1}), row(1, 6, **{"rollout/entropy_after_tool": 0.3})]
    summary = summarize_run(config, TrainerState(step=2, best_step=1, best_accuracy=0.5), rows)
    assert summary["branch_rate"] == pytest.approx(0.4)
    assert summary["entropy_after_tool"] == pytest.approx(0.2)
    assert (summary["seed"], summary["num_steps"], summary["best_step"]) == (3, 2, 1)


def test_branches_elsewhere_than_at_opportunities_have_no_rate(config: RlRun):
    """96 branches, 24 trajectories from the prompt and 8 top-ups: 96 / 128."""
    rows = [row(96, 0, **{"rollout/num_initial": 24, "rollout/num_topups": 8})]
    summary = summarize_run(config, TrainerState(step=1), rows)
    assert summary["branch_rate"] is None
    assert summary["branch_share"] == 0.75


def test_what_was_not_measured_is_in_neither_line_nor_summary(config: RlRun):
    """A mean over the steps that measured: 0.1 and 0.3 of three steps."""
    rows = [row(0, 0), row(0, 0, **{"rollout/entropy_after_tool": 0.1}), row(0, 0, **{"rollout/entropy_after_tool": 0.3})]
    assert summarize_run(config, TrainerState(step=3), rows)["entropy_after_tool"] == pytest.approx(0.2)
    assert summarize_run(config, TrainerState(step=1), rows[:1])["entropy_after_tool"] is None
    assert live_line({"rollout/reward_mean": 0.5}) == {"reward": 0.5}
    assert live_line({"rollout/reward_mean": 0.5, "valid/reward_mean": 0.25}) == {"reward": 0.5, "valid": 0.25}
    assert "calls" not in live_line({"rollout/tool_calls_issued": 0, "rollout/tool_calls_executed": 0})


def test_tools_that_never_worked_are_named(config: RlRun):
    """12 searches of which none worked; 8 programs of which 6 did."""

    def step(searches: float, programs: float) -> dict[str, float]:
        names = ("reward_mean", "accuracy", "entropy_after_tool", "entropy_elsewhere", "num_branches", "tokens_per_s")
        calls = {"tool/search/calls": searches, "tool/search/success_rate": 0.0}
        return {f"rollout/{n}": 0.0 for n in names} | calls | {"tool/python/calls": programs, "tool/python/success_rate": 0.75}

    rows = [step(8, 4), step(4, 4)]
    assert live_line(rows[0])["failed"] == "search 8/8"
    summary = summarize_run(config, TrainerState(step=2), rows)
    assert (summary["search_success_rate"], summary["python_success_rate"]) == (0.0, 0.75)
    (line,) = broken_tools(rows)
    assert line.startswith("every call of 'search' failed (12)")
    working = rows[0] | {"tool/search/success_rate": 0.5}
    assert live_line(working)["failed"] == pytest.approx(1 - (4 + 3) / 12, abs=1e-3)
    assert broken_tools([rows[0], working]) == []
    assert "failed" not in live_line({k: v for k, v in rows[0].items() if not k.startswith("tool/")})
    assert "failed" not in live_line(rows[0] | {"tool/search/success_rate": 1.0, "tool/python/success_rate": 1.0})
