"""Compares evaluations in pairs on their shared questions, with tests of the differences."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from pathlib import Path
from typing import Any, cast

import numpy as np

from arpo.errors import DataError
from arpo.evaluation.bootstrap import CONFIDENCE, Floats, resample_counts
from arpo.evaluation.metrics import EVAL_METRICS, EvalMetric, Share, questions_of, sampled_metrics
from arpo.evaluation.paired_tests import holm, mcnemar, swap_test
from arpo.evaluation.records import TIMES_FILE, Mode, read_records, read_times
from arpo.evaluation.report import read_results
from arpo.functions.record import code_identities

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
    different_rules: dict[str, dict[str, Any]]
    """Key of reward, grading, limits or protocol that differs -> run -> its value; None: the run does not set it."""


def compare(paths: Sequence[Path], *, metric: str = "score", mode: Mode | None = None, seed: int = 0) -> Comparison:
    """Compare two or more finished evaluations in every pair.

    Args:
        paths: Their folders.
        metric: A name of `metrics.EVAL_METRICS`, `pass@k` or `maj@k`.
        mode: Which answers; None: greedy where all runs have them and the metric is not of samples.
        seed: Names the draws of intervals and permutations.

    Raises:
        DataError: a run is not finished or lacks the metric, its score is of another grader, two runs share no question, or
            the figure itself was made by different rules: the reward of different `reward` keys, right answers of different
            graders or judges. Other rules that differ are in `Comparison.different_rules`.
    """
    if len({path.resolve() for path in paths}) < 2:
        raise DataError(f"compare: {len(paths)} run(s) given, of which fewer than two differ; name two or more evaluations")
    results = {path: read_results(path) for path in paths}
    mode = mode or _common_mode(list(results.values()), metric)
    graders = {path: result["metric"] for path, result in results.items()}
    if metric == "score" and len(set(graders.values())) > 1:
        listed = ", ".join(f"{path}: {name}" for path, name in graders.items())
        raise DataError(f"compare: the scores are of different graders ({listed}); compare another metric, e.g. accuracy")
    rules = _different_rules(paths)
    _require_same_rules(metric, rules, results)
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
        different_rules={key: {names[path]: value for path, value in values.items()} for key, values in rules.items()},
    )  # fmt: skip


_RULES = ("reward", "grader", "grading", "benchmark", "temperature", "agent")
"""Sections and keys that say how an answer is made and graded; the model and the tasks are what is compared."""
_NO_RULES = ("agent.tools.cache", "reward.judge.cache", "reward.judge.http", "reward.judge.max_concurrent")
"""Parts of them that change no answer and no grade."""
_MAKES_REWARD, _MAKES_VERDICT = ("reward.",), ("reward.judge.", "grader", "grading")


def _different_rules(paths: Sequence[Path]) -> dict[str, dict[Path, Any]]:
    """Key -> run -> its value, of the rules in which the runs' configurations differ; runs without one are left out."""
    found = {path: _rules(path) for path in paths if (path / "config.toml").is_file()}
    keys = sorted({key for rules in found.values() for key in rules})
    values = {key: {path: rules.get(key) for path, rules in found.items()} for key in keys}
    return {key: of_runs for key, of_runs in values.items() if len({repr(value) for value in of_runs.values()}) > 1}


def _rules(path: Path) -> dict[str, Any]:
    config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
    rules = dict(_flat({key: config[key] for key in _RULES if key in config}))
    return rules | code_identities(path)  # the same name may stand for other code


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(cast(Mapping[str, Any], value), f"{name}.")
        elif not name.startswith(_NO_RULES):
            yield name, value


def _require_same_rules(
    metric: str, rules: Mapping[str, Mapping[Path, Any]], results: Mapping[Path, Mapping[str, Any]]
) -> None:
    """Refuse a figure that was made by different rules in two runs."""
    makes: tuple[str, ...] = ()
    if metric == "reward":
        makes = _MAKES_REWARD
    elif metric in ("score", "accuracy", "tool_productivity") or metric.startswith(("pass@", "maj@")):
        is_by_reward = any(result["metric"] == "accuracy" for result in results.values())  # no grader of the evaluation's own
        makes = _MAKES_VERDICT + (_MAKES_REWARD if is_by_reward else ())
    listed = [f"{key} ({_values(of_runs)})" for key, of_runs in rules.items() if key.startswith(makes)] if makes else []
    if listed:
        raise DataError(
            f"compare: {metric!r} was made by different rules: {'; '.join(listed)}; evaluate again with the same, or compare "
            f"a metric they do not touch, e.g. --metric {'accuracy' if metric == 'reward' else 'exact_match'}"
        )


def _values(of_runs: Mapping[Path, Any]) -> str:
    return ", ".join(f"{path}: {'not set' if value is None else value}" for path, value in of_runs.items())


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
    """The shortest ends of the paths that tell them apart.

    Example: runs/a/eval and runs/b/eval: a/eval and b/eval.
    """
    parts = {path: path.resolve().parts for path in paths}
    length = next(n for n in count(1) if len({p[-n:] for p in parts.values()}) == len(set(parts.values())))
    return {path: str(Path(*p[-length:])) for path, p in parts.items()}


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
