"""A measured step is a step of RL: it samples the workload, moves the weights, and stands beside both limits."""

import pytest

from arpo.lab.bench.rollout import Case, Shape
from arpo.lab.bench.step import StepBenchOptions, run
from arpo.lab.bench.step_report import STEP_REPORT
from arpo.tracking.progress import SilentProgress


def test_both_formats_beside_their_limits() -> None:
    """16 trajectories of 6 + 2 x 4 + 1 x 5 tokens share their prompt: 6 + 16 x 13 = 214 unique tokens, 16 x 2 x 4 sampled."""
    shape = Shape(num_turns=2, prompt_tokens=6, turn_tokens=4, observation_tokens=5)
    case = Case(model="tiny", trajectories=16, width=16, shape=shape)
    options = StepBenchOptions(case=case, dtypes=("float32", "bfloat16"), max_tokens=64)
    *_, result = run(options, SilentProgress())
    exact, half = result["steps"]
    for row in (exact, half):
        assert (row["unique_tokens"], row["sampled_tokens"]) == (214, 128)
        assert row["step_seconds"] == row["rollout_seconds"] + row["training_seconds"]
        limits = row["rollout_limit_seconds"] + row["training_limit_seconds"]
        assert row["ratio_to_limits"] == pytest.approx(row["step_seconds"] / limits)
    assert exact["speedup_vs_float32"] == 1
    assert half["speedup_vs_float32"] == pytest.approx(exact["step_seconds"] / half["step_seconds"])
    (table,) = STEP_REPORT.tables(result)
    assert table[1][:4] == ["tiny", "float32", "16", "6 + 2 x 4 + 1 x 5"]
