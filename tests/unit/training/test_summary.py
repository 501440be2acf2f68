from pathlib import Path

import pytest

from arpo.config import parse_config
from arpo.training.checkpoint import TrainerState
from arpo.training.config import RlRun
from arpo.training.summary import summarize_run


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
