"""Means over runs and differences between arms, with intervals over both runs and questions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.typing import NDArray

from arpo.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES, resample_counts
from arpo.lab.study.arm_results import ArmResult, RunResult
from arpo.lab.study.measures import QUESTION_MEASURES

Floats = NDArray[np.float64]
Key = tuple[int, int | None]
"""(world, seed) of a run; seed None for a cold start."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Estimate:
    """A metric over runs, with its intervals."""

    value: float
    """Mean over runs (of a ratio: ratio of the means)."""
    low: float
    """Lower end of the 95 % interval of the two-level bootstrap; with one run it covers questions alone."""
    high: float
    t_low: float | None
    """Lower end of Student's 95 % interval over the runs' values; None with one run, and for ratios."""
    t_high: float | None
    runs: Mapping[str, float]
    """Value of each run, by `world-seed`."""


@dataclass(slots=True, frozen=True)
class Column:
    """One metric of one run."""

    value: float
    resampled: Floats
    """[B] its value on the questions of each resample; constant for metrics without questions."""


Columns = Mapping[Key, Column]
"""A metric of an arm, by run."""


def estimate(runs: Columns) -> Estimate | None:
    """The mean over runs with its interval; None: there is no run.

    Formula: value = 1/R sum_r 1/Q sum_q y_rq. A resample draws R runs and, in each world, Q questions, both with replacement;
    the questions drawn of a world are the same for all of its runs. The interval holds the middle 95 % of 10,000 resampled
    values. Source: the percentile bootstrap with runs and questions crossed, the pigeonhole bootstrap of Owen (2007); rliable
    (arXiv:2108.13264) resamples runs within a task; evaluation harnesses resample questions alone, which says nothing of
    another training run.

    A resample of R runs varies (R - 1) / R as much as another R runs would, and no resample leaves the range of those seen: of
    normal values 84 % of such intervals hold the mean with five runs, 75 % with three, half with two. So Student's interval
    over the runs' values, mean ± t s / sqrt(R), R - 1 degrees of freedom, stands beside it; it takes the questions as given.
    """
    if not runs:
        return None
    return _estimate(runs, _resampled_mean(runs), fmean(c.value for c in runs.values()), has_t=True)


def difference(of: Columns, against: Columns) -> Estimate | None:
    """Mean of `of` minus `against` over the runs both have, by world and seed; None: they share none.

    Both are resampled with the same runs and questions, so that a hard world or question cancels.

    Example: of 0.8 and 0.6, against 0.7 and 0.6 in the same two runs: +0.05, the runs' values +0.1 and 0.
    """
    return estimate({
        key: Column(of[key].value - against[key].value, of[key].resampled - against[key].resampled)
        for key in of
        if key in against
    })  # fmt: skip


def ratio(of: Columns, against: Columns) -> Estimate | None:
    """Mean of `of` over mean of `against`, over the runs both have; None: they share none, or it would divide by 0."""
    shared = [key for key in of if key in against]
    top, bottom = ({key: side[key] for key in shared} for side in (of, against))
    if not shared or any(column.value <= 0 for column in bottom.values()):
        return None
    value = sum(c.value for c in top.values()) / sum(c.value for c in bottom.values())
    each = {key: Column(top[key].value / bottom[key].value, top[key].resampled) for key in shared}
    return _estimate(each, _resampled_mean(top) / _resampled_mean(bottom), value, has_t=False)


def _estimate(runs: Columns, resampled: Floats, value: float, *, has_t: bool) -> Estimate:
    values = [column.value for column in runs.values()]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    half = student(len(values) - 1) * stdev(values) / math.sqrt(len(values)) if has_t and len(values) > 1 else None
    return Estimate(
        value=value, low=float(low), high=float(high), t_low=None if half is None else value - half,
        t_high=None if half is None else value + half, runs={_name(key): column.value for key, column in runs.items()},
    )  # fmt: skip


def _resampled_mean(runs: Columns) -> Floats:
    """[B] mean over the runs of each resample."""
    weights = np.concatenate([*resample_counts(len(runs), seed=0)]) / len(runs)
    return (weights * np.stack([column.resampled for column in runs.values()], axis=1)).sum(axis=1)


def _name(key: Key) -> str:
    return "-".join(str(part) for part in key if part is not None)


def student(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t, by its expansion around the normal quantile from 8 degrees of freedom on.

    Source: Abramowitz and Stegun (1964), 26.7.5, whose error is below 0.0005 there.
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )  # fmt: skip
    return sum(term / freedom**power for power, term in enumerate(terms))


_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646)


@dataclass(slots=True)
class ResampledMetrics:
    """The columns of every metric of every arm; the questions of a world are resampled once for all of them."""

    _columns: dict[tuple[str, str, str], dict[Key, Column]] = field(default_factory=dict)

    def of(self, arm: str, metric: str, point: str) -> Columns:
        """A metric of an arm, by run; `point` matters to metrics of tests alone. Empty where no run has it."""
        return self._columns.get((arm, metric, point if metric in QUESTION_MEASURES else ""), {})

    def add(self, arm: str, metric: str, point: str, key: Key, column: Column) -> None:
        """Add one run's column."""
        self._columns.setdefault((arm, metric, point), {})[key] = column


def collect_metrics(arms: Sequence[ArmResult]) -> ResampledMetrics:
    """The metrics of all runs, questions resampled."""
    metrics = ResampledMetrics()
    worlds = sorted({run.world for arm in arms for run in arm.runs})
    for index, world in enumerate(worlds):
        _collect_tests(metrics, [(arm.name, run) for arm in arms for run in arm.runs if run.world == world], seed=index + 1)
    for arm in arms:
        for run in arm.runs:
            for name, value in run.training.metrics.items():
                if value is not None:
                    column = Column(value, np.full(NUM_RESAMPLES, value))
                    metrics.add(arm.name, name, "", (run.world, run.seed), column)
    return metrics


def _collect_tests(metrics: ResampledMetrics, runs: Sequence[tuple[str, RunResult]], seed: int) -> None:
    """Add the tests of one world."""
    keys: list[tuple[str, str, str, Key]] = []
    answers: list[Floats] = []
    for arm, run in runs:
        for point, test in run.tests.items():
            for name, values in test.answers.metrics.items():
                keys.append((arm, name, point, (run.world, run.seed)))
                answers.append(values)
    if not answers:
        return
    matrix = np.stack(answers, axis=1)
    num_questions = len(matrix)
    resampled = np.concatenate([counts @ matrix for counts in resample_counts(num_questions, seed)]) / num_questions
    for key, value, column in zip(keys, matrix.mean(axis=0), resampled.T, strict=True):
        metrics.add(*key, Column(float(value), np.ascontiguousarray(column)))
