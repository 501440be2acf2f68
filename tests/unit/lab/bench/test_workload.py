"""Counts worked by hand, and latencies against the distribution they are named after."""

import numpy as np
import pytest

from arpo.lab.bench.latency import LONG_TAILED, NO_LATENCY
from arpo.lab.bench.workload import Workload


def make(**changes) -> Workload:
    return Workload(**{"num_tasks": 3, "group_size": 4, "width": 8, "latency": NO_LATENCY, **changes})


def test_counts() -> None:
    workload = make(num_turns=3, prompt_tokens=10, turn_tokens=5, observation_tokens=2)
    assert workload.num_trajectories == 12
    assert workload.trajectory_tokens == 10 + 3 * 5 + 2 * 2
    assert workload.sampled_tokens == 12 * 3 * 5
    assert workload.prefill_minimum == 3 * 10 + 12 * 2 * 2  # each prompt once per task, each observation once


def test_a_workload_is_the_same_whoever_asks() -> None:
    first, second = make(latency=LONG_TAILED), make(latency=LONG_TAILED)
    for name in ("prompts", "observation", "delays"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert len(np.unique(first.prompts, axis=0)) == 3


@pytest.mark.parametrize(("latency", "median", "p99"), [(LONG_TAILED, 0.05, 2.0), (NO_LATENCY, 0.0, 0.0)])
def test_latency_has_its_median_and_percentile(latency, median: float, p99: float) -> None:
    drawn = latency.sample((400_000,), seed=0)
    # standard error of a sample quantile at 400,000 draws: below 1 % of the median, 2 % of the 99th percentile
    assert np.median(drawn) == pytest.approx(median, rel=0.02)
    assert np.quantile(drawn, 0.99) == pytest.approx(p99, rel=0.06)
    assert drawn.max() <= latency.limit
