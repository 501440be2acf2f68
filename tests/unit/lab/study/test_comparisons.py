"""Means and differences over runs, with intervals computed by hand and against the binomial law."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from arpo.evaluation.bootstrap import NUM_RESAMPLES
from arpo.lab.study.arm_results import ArmResult, PolicyTest, QuestionAnswers, RunResult
from arpo.lab.study.comparisons import Column, Columns, collect_metrics, difference, estimate, ratio, student


def constant(*values: float) -> Columns:
    """Runs (0, 0), (0, 1), … whose figure no question is behind."""
    return {(0, seed): Column(value, np.full(NUM_RESAMPLES, value)) for seed, value in enumerate(values)}


def arm(name: str, right: Mapping[tuple[int, int], Sequence[float]]) -> ArmResult:
    """An arm with greedy answers at equal steps."""
    runs: list[RunResult] = []
    for (world, seed), values in right.items():
        ids = tuple(f"q{i}" for i in range(len(values)))
        answers = QuestionAnswers(
            task_ids=ids, num_samples=[0] * len(ids), num_right=[0] * len(ids), metrics={"accuracy": np.array(values)}
        )
        test = PolicyTest(step=1, answers=answers)
        runs.append(RunResult(world=world, seed=seed, tests={"steps": test}))
    return ArmResult(name=name, about="", num_planned=len(runs), runs=runs, tried={})


def test_a_mean_over_two_runs_without_questions() -> None:
    """Resampled means of 0.2 and 0.6 are 0.2, 0.4, 0.6 with chances 1/4, 1/2, 1/4: the middle 95 % is all of it.

    Student: s = 0.2828, half-width 12.706 · 0.2828 / sqrt(2) = 2.541.
    """
    found = estimate(constant(0.2, 0.6))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.2, 0.6))
    assert found.t_low == pytest.approx(0.4 - 2.541, abs=1e-3)
    assert found.t_high == pytest.approx(0.4 + 2.541, abs=1e-3)
    assert found.runs == {"0-0": 0.2, "0-1": 0.6}


def test_one_run_knows_of_its_questions_alone() -> None:
    """100 questions, 30 right: resampled means are Binomial(100, 0.3) / 100, whose middle 95 % is 0.21 to 0.39."""
    metrics = collect_metrics([arm("a", {(0, 0): [1.0] * 30 + [0.0] * 70})])
    found = estimate(metrics.of("a", "accuracy", "steps"))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.21, 0.39), abs=0.011)
    assert (found.t_low, found.t_high) == (None, None)


def test_runs_of_a_world_get_the_same_questions() -> None:
    """Two equal runs of a world vary like one; two equal runs of two worlds vary half as much in variance.

    One world: sd sqrt(0.25 / 100) = 0.05, width 2 · 1.96 · 0.05 = 0.196. A run of two worlds each: with chance 1/2 a resample
    draws both (variance 0.0025 / 2), else one twice (0.0025): 0.75 · 0.0025, width 0.17.
    """
    right = [1.0] * 50 + [0.0] * 50
    same = collect_metrics([arm("a", {(0, 0): right, (0, 1): right})])
    other = collect_metrics([arm("a", {(0, 0): right, (1, 0): right})])
    widths: list[float] = []
    for metrics in (same, other):
        found = estimate(metrics.of("a", "accuracy", "steps"))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths == pytest.approx([0.196, 0.17], abs=0.015)


def test_a_difference_is_paired_by_run_and_question() -> None:
    """Both arms vary from run to run and question to question, but one is right on exactly one question more everywhere."""
    a = {(0, 0): [1.0] * 11 + [0.0] * 9, (1, 0): [0.0] * 19 + [1.0], (2, 7): [1.0] * 20}
    b = {(0, 0): [1.0] * 10 + [0.0] * 10, (1, 0): [0.0] * 20}
    metrics = collect_metrics([arm("a", a), arm("b", b)])
    found = difference(metrics.of("a", "accuracy", "steps"), metrics.of("b", "accuracy", "steps"))
    assert found is not None
    assert found.value == pytest.approx(0.05)
    assert found.runs == pytest.approx({"0-0": 0.05, "1-0": 0.05})  # (2, 7) has no partner
    assert found.t_low == pytest.approx(0.05)  # no variance between runs
    alone = estimate(metrics.of("a", "accuracy", "steps"))
    assert alone is not None
    assert found.high - found.low < 0.2 < alone.high - alone.low


def test_equal_arms_do_not_differ_at_all() -> None:
    right = {(0, 0): [1.0, 0.0, 1.0], (1, 0): [0.0, 0.0, 1.0]}
    metrics = collect_metrics([arm("a", right), arm("b", right)])
    found = difference(metrics.of("a", "accuracy", "steps"), metrics.of("b", "accuracy", "steps"))
    assert found is not None
    assert (found.value, found.low, found.high, found.t_low, found.t_high) == (0, 0, 0, 0, 0)


def test_a_ratio_of_means_over_shared_runs() -> None:
    """(8 + 4) / (16 + 4) = 0.6; resamples give 8/16, 12/20 and 4/4."""
    found = ratio(constant(8, 4, 1), constant(16, 4))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.6, 0.5, 1.0))
    assert found.runs == {"0-0": 0.5, "0-1": 1.0}
    assert found.t_low is None


def test_nothing_shared_nothing_said() -> None:
    assert estimate({}) is None
    assert difference(constant(1.0), {}) is None
    assert ratio(constant(1.0), constant(0.0)) is None


def test_the_interval_between_runs_has_the_variance_that_is_documented() -> None:
    """Resampled means of R runs vary with variance s² (R - 1) / R²; for 0, 1, 2, 3, 4: s² = 2.5, 2.5 · 4 / 25 = 0.4."""
    runs = constant(0, 1, 2, 3, 4)
    found = estimate(runs)
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(0.4), rel=0.05)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (4, 2.7764), (8, 2.3060), (9, 2.2622), (30, 2.0423)])
def test_students_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=5e-4)
