"""Compares evaluations in pairs on their shared questions, with tests of the differences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from arpo.errors import DataError
from arpo.evaluation.bootstrap import CONFIDENCE, Floats, resample_counts
from arpo.evaluation.metrics import EVAL_METRICS, EvalMetric, Share, questions_of, sampled_metrics
from arpo.evaluation.paired_tests import holm, mcnemar, swap_test
from arpo.evaluation.records import TIMES_FILE, Mode, read_records, read_times
from arpo.evaluation.report import read_results

ALPHA = 0.05
"""A difference is real when its corrected p value is below this."""

Shares = dict[tuple[str, str], Share]
"""(task id, question) -> the question's share in the metric."""


@dataclass(slots=True, frozen=True, kw_only=True)
class ComparedRun:
    """One of the runs."""

    name: str
    """Name of its folder, or its path where two runs share a name."""
    path: str
    value: float
    """The metric over all its questions."""
    num_questions: int


@dataclass(slots=True, frozen=True, kw_only=True)
class ComparedPair:
    """Two runs on their shared questions."""

    a: str
    b: str
    num_shared: int
    """Questions with a share in the metric in both runs; all fields below are about these."""
    num_only_a: int
    """Questions of a alone: b has none of that id and text, or no share in the metric."""
    num_only_b: int
    value_a: float
    value_b: float
    difference: float
    """b - a."""
    low: float
    """Lower end of the 95 % paired bootstrap interval of the difference."""
    high: float
    test: str
    """`mcnemar` where every question counts 0 or 1 in both runs, else `swap`."""
    p: float
    p_holm: float
    """Corrected for the number of pairs compared."""
    is_real: bool
    """`p_holm` is below 0.05."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Comparison:
    """All runs, and each pair."""

    figure: str
    """Name of the metric that is compared."""
    meaning: str
    mode: Mode
    runs: list[ComparedRun]
    pairs: list[ComparedPair]


def compare(paths: Sequence[Path], *, metric: str = "score", mode: Mode | None = None, seed: int = 0) -> Comparison:
    """Compare two or more finished evaluations in every pair.

    Args:
        paths: Their folders.
        metric: A name of `metrics.EVAL_METRICS`, `pass@k` or `maj@k`.
        mode: Which answers; None: greedy where all runs have them and the metric is not of samples.
        seed: Names the draws of intervals and permutations.

    Raises:
        DataError: a run is not finished or lacks the metric, its score is of another grader, or two runs share no question.
    """
    if len({path.resolve() for path in paths}) < 2:
        raise DataError(f"compare: {len(paths)} run(s) given, of which fewer than two differ; name two or more evaluations")
    results = {path: read_results(path) for path in paths}
    mode = mode or _common_mode(list(results.values()), metric)
    graders = {path: result["metric"] for path, result in results.items()}
    if metric == "score" and len(set(graders.values())) > 1:
        listed = ", ".join(f"{path}: {name}" for path, name in graders.items())
        raise DataError(f"compare: the scores are of different graders ({listed}); compare another metric, e.g. accuracy")
    shares = {path: _shares(path, metric, mode, results[path]["num_samples"]) for path in paths}
    names = _names(paths)
    pairs = [_pair(names[a], names[b], shares[a], shares[b], seed) for a, b in combinations(paths, 2)]
    corrected = holm([pair.p for pair in pairs])
    return Comparison(
        figure=metric if metric != "score" else f"score ({next(iter(graders.values()))})",
        meaning=_metric(metric, min(result["num_samples"] for result in results.values())).meaning,
        mode=mode,
        runs=[_run(names[path], path, shares[path]) for path in paths],
        pairs=[replace(pair, p_holm=p, is_real=p < ALPHA) for pair, p in zip(pairs, corrected, strict=True)],
    )  # fmt: skip


def _run(name: str, path: Path, shares: Shares) -> ComparedRun:
    return ComparedRun(name=name, path=str(path), value=_ratio(name, list(shares.values())), num_questions=len(shares))


def _common_mode(results: Sequence[dict[str, Any]], metric: str) -> Mode:
    is_of_samples = metric.startswith(("pass@", "maj@"))
    return "greedy" if not is_of_samples and all("greedy" in r["figures"] for r in results) else "sampled"


def _metric(name: str, num_samples: int) -> EvalMetric:
    known = EVAL_METRICS | sampled_metrics(num_samples)
    if name not in known:
        raise DataError(f"compare: there is no metric {name!r} with {num_samples} samples; use one of {', '.join(known)}")
    return known[name]


def _shares(path: Path, name: str, mode: Mode, num_samples: int) -> Shares:
    """The share of each question of a run in the metric."""
    metric = _metric(name, num_samples)
    times = read_times(path) if (path / TIMES_FILE).is_file() else []
    questions = questions_of(read_records(path), mode, times)
    shares = {(q.task_id, q.text): share for q in questions if (share := metric.of(q)) is not None}
    if not shares:
        raise DataError(f"{path}: no {mode} answer has {name!r}; compare another metric or mode")
    return shares


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    short = {path: path.resolve().name for path in paths}
    return {path: name if list(short.values()).count(name) == 1 else str(path) for path, name in short.items()}


def _pair(name_a: str, name_b: str, a: Shares, b: Shares, seed: int) -> ComparedPair:
    shared = [key for key in a if key in b]
    if not shared:
        raise DataError(f"compare: {name_a} and {name_b} share no question (same id and same text); nothing can be compared")
    side_a, side_b = _arrays([a[k] for k in shared]), _arrays([b[k] for k in shared])
    value_a, value_b = (_ratio(name, [shares[k] for k in shared]) for name, shares in ((name_a, a), (name_b, b)))
    is_binary = all((den == 1).all() and np.isin(num, (0.0, 1.0)).all() for num, den in (side_a, side_b))
    change = side_b[0] - side_a[0]
    p = mcnemar(int((change < 0).sum()), int((change > 0).sum())) if is_binary else swap_test(side_a, side_b, seed=seed)
    low, high = _interval(side_a, side_b, seed)
    return ComparedPair(
        a=name_a, b=name_b, num_shared=len(shared), num_only_a=len(a) - len(shared), num_only_b=len(b) - len(shared),
        value_a=value_a, value_b=value_b, difference=value_b - value_a, low=low, high=high,
        test="mcnemar" if is_binary else "swap", p=p, p_holm=p, is_real=False,
    )  # fmt: skip


def _interval(a: tuple[Floats, Floats], b: tuple[Floats, Floats], seed: int) -> tuple[float, float]:
    """The interval of b - a; both runs are resampled with the same questions."""
    with np.errstate(divide="ignore", invalid="ignore"):
        differences = [
            (counts @ b[0]) / (counts @ b[1]) - (counts @ a[0]) / (counts @ a[1]) for counts in resample_counts(len(a[0]), seed)
        ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.concatenate(differences), (tail, 1 - tail))
    return float(low), float(high)


def _arrays(shares: Sequence[Share]) -> tuple[Floats, Floats]:
    return np.array([s.num for s in shares]), np.array([s.den for s in shares])


def _ratio(run: str, shares: Sequence[Share]) -> float:
    total = sum(s.den for s in shares)
    if not total:
        raise DataError(f"compare: the metric divides by 0 in {run}, e.g. by tool calls; compare another")
    return sum(s.num for s in shares) / total
