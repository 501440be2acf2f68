"""Bootstrap intervals: how much a metric varies between draws of as many questions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
_CHUNK_CELLS = 4_000_000

Floats = NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class Interval:
    """The value of a metric and its interval."""

    value: float | None
    """None when no question has a share in it."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    num_questions: int
    """Questions with a share in it."""


def bootstrap_ratios(numerators: Floats, denominators: Floats, *, seed: int = 0) -> list[Interval]:
    """Percentile intervals of ratios of sums, with the questions as units.

    Formula: value = sum_q num / sum_q den; the interval holds the middle 95 % of the values over 10,000 draws of as many
    questions with replacement. With den = 1 it is a mean. A question's samples stay together: they are not independent. Source:
    Efron (1979). The percentile interval is a little narrow below some 30 questions and has no width where all questions
    agree, as a resample has only observed values.

    Args:
        numerators: [Q, M], a row per question, a column per metric.
        denominators: [Q, M]; 0 where a question has no share in a metric.
        seed: Names the draws, which all metrics share.

    Example:
        # right answers 3 and 1, calls 4 and 4: 4 / 8
        bootstrap_ratios(np.array([[3.0], [1.0]]), np.array([[4.0], [4.0]]))[0].value  # -> 0.5
    """
    num_questions, num_metrics = numerators.shape
    values = np.full((NUM_RESAMPLES, num_metrics), np.nan)
    row = 0
    for counts in resample_counts(num_questions, seed):
        values[row : row + len(counts)] = _divide(counts @ numerators, counts @ denominators)
        row += len(counts)
    points = _divide(numerators.sum(0), denominators.sum(0))
    tail = (1 - CONFIDENCE) / 2
    intervals: list[Interval] = []
    for column, point in enumerate(points):
        known = values[:, column][~np.isnan(values[:, column])]
        num_shares = int((denominators[:, column] > 0).sum())
        if np.isnan(point) or not len(known):
            intervals.append(Interval(None, None, None, num_shares))
            continue
        low, high = np.quantile(known, (tail, 1 - tail))
        intervals.append(Interval(float(point), float(low), float(high), num_shares))
    return intervals


def resample_counts(num_questions: int, seed: int) -> Iterator[Floats]:
    """[R, Q] in chunks of bounded size, `NUM_RESAMPLES` rows in all: the count of each question in a resample."""
    rng = np.random.default_rng(seed)
    for size in chunk_sizes(num_questions) if num_questions else ():
        drawn = rng.integers(num_questions, size=(size, num_questions)) + np.arange(size)[:, None] * num_questions
        yield np.bincount(drawn.ravel(), minlength=size * num_questions).reshape(size, num_questions).astype(np.float64)


def chunk_sizes(num_questions: int) -> Iterator[int]:
    """Rows of each chunk of `NUM_RESAMPLES` rows with a cell per question."""
    chunk = max(1, _CHUNK_CELLS // num_questions)
    return (min(chunk, NUM_RESAMPLES - start) for start in range(0, NUM_RESAMPLES, chunk))


def _divide(numerators: Floats, denominators: Floats) -> Floats:
    return np.divide(numerators, denominators, out=np.full_like(numerators, np.nan), where=denominators > 0)
