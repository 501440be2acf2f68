"""`results.json`, every metric of an evaluation with its interval, and `summary.json`, the main ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from arpo.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES
from arpo.evaluation.metrics import EVAL_METRICS, Question, measure, questions_of, sampled_metrics
from arpo.evaluation.records import AnswerTime, Failure, Mode, Record

RESULTS_FILE = "results.json"
FORMAT_VERSION = 1
MODES: tuple[Mode, ...] = ("greedy", "sampled")


def make_results(
    records: Sequence[Record],
    times: Sequence[AnswerTime],
    *,
    metric: str,
    seed: int = 0,
    failures: Sequence[Failure] = (),
) -> dict[str, Any]:
    """The content of `results.json`, from the records and failures alone.

    `num_questions` are those answered in `mode`, `num_failed` those that failed in any mode, listed in `failures`.
    `figures.<mode>.<name>` is {value, low, high, num_questions}, as `Interval`; `groups.<key>.<value>` has the number of
    questions and, per mode, the score (`greedy`) or score and pass@k (`sampled`). `mode` is the mode of the headline, `score`:
    greedy where there is one.
    """
    by_mode: dict[Mode, list[Question]] = {m: questions for m in MODES if (questions := questions_of(records, m, times))}
    num_samples = min((len(q.answers) for q in by_mode.get("sampled", [])), default=0)
    metrics = {mode: EVAL_METRICS | (sampled_metrics(num_samples) if mode == "sampled" else {}) for mode in by_mode}
    measured = {mode: measure(questions, metrics[mode], seed) for mode, questions in by_mode.items()}
    mode = next(iter(by_mode))
    return {
        "format": FORMAT_VERSION,
        "metric": metric,
        "mode": mode,
        "num_questions": len(by_mode[mode]),
        "num_samples": num_samples,
        "num_answers": len(records),
        "num_failed": len({failure.task_id for failure in failures}),
        "failures": [asdict(failure) for failure in failures],
        "num_ungraded": sum(r.is_correct is None for r in records),
        "interval": {
            "method": "percentile bootstrap over questions",
            "confidence": CONFIDENCE,
            "num_resamples": NUM_RESAMPLES,
            "seed": seed,
        },
        "figures": {mode: {name: asdict(interval) for name, interval in values.items()} for mode, values in measured.items()},
        "groups": _groups(by_mode, num_samples, seed),
        "tools": _tools(records),
        "extractions": dict(Counter(r.extraction for r in records if r.mode == mode).most_common()),
        "reasons": dict(Counter(r.reason for r in records if r.mode == mode).most_common(_MAX_REASONS)),
    }


def make_summary(results: dict[str, Any]) -> dict[str, Any]:
    """The main values, by the names of every run's summary.

    `accuracy` to `tokens_per_answer` are of the greedy answers, else of the sampled ones. With samples there are
    `sampled_accuracy`, `sampled_exact_match`, `pass_at_k` and `maj_at_k`, with k = samples per question. `score_questions`,
    `pass_at_k_questions` ... say of how many questions these speak: those with enough graded answers.
    """
    main = results["figures"][results["mode"]]
    score = main["score"]
    summary: dict[str, Any] = {
        "num_tasks": results["num_questions"],
        "metric": results["metric"],
        "score": score["value"],
        "score_low": score["low"],
        "score_high": score["high"],
        "score_questions": score["num_questions"],
        "num_ungraded": results["num_ungraded"],
        "num_failed": results["num_failed"],
        **{new: main[name]["value"] for new, name in _SUMMARY_NAMES.items()},
    }
    k = results["num_samples"]
    if k:
        sampled = results["figures"]["sampled"]
        summary |= {"k": k, **{f"sampled_{name}": sampled[name]["value"] for name in ("accuracy", "exact_match")}}
        for name, of in (("pass_at_1", "pass@1"), ("pass_at_k", f"pass@{k}"), ("maj_at_k", f"maj@{k}")):
            summary |= {name: sampled[of]["value"], f"{name}_questions": sampled[of]["num_questions"]}
    return summary


_SUMMARY_NAMES = {
    "accuracy": "accuracy", "exact_match": "exact_match", "f1": "f1", "reward_mean": "reward",
    "format_valid_rate": "format_valid", "tool_calls_per_task": "tool_calls", "tool_productivity": "tool_productivity",
    "tokens_per_answer": "tokens",
}  # fmt: skip
_MAX_REASONS = 40


def _groups(by_mode: dict[Mode, list[Question]], num_samples: int, seed: int) -> dict[str, Any]:
    """Key of the tasks' data -> value -> number of questions, and their metrics by mode."""
    values: dict[str, set[str]] = {}
    for key, value in (item for questions in by_mode.values() for q in questions for item in q.groups.items()):
        values.setdefault(key, set()).add(value)
    score = {"score": EVAL_METRICS["score"]}
    pass_at_k = {name: m for name, m in sampled_metrics(num_samples).items() if name == f"pass@{num_samples}"}

    def row(key: str, value: str) -> dict[str, Any]:
        parts = {mode: [q for q in questions if q.groups.get(key) == value] for mode, questions in by_mode.items()}
        measured = {m: measure(part, score | pass_at_k if m == "sampled" else score, seed) for m, part in parts.items()}
        intervals = {mode: {name: asdict(i) for name, i in values.items()} for mode, values in measured.items()}
        return {"num_questions": max(map(len, parts.values())), **intervals}

    return {key: {value: row(key, value) for value in sorted(group, key=_natural)} for key, group in values.items()}


def _natural(value: str) -> tuple[bool, float, str]:
    """Sort key: numbers by value, then words."""
    return (False, float(value), "") if value.replace(".", "", 1).isdecimal() else (True, 0.0, value)


def _tools(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    calls, failed = Counter[str](), Counter[str]()
    for record in records:
        calls.update(record.tool_calls)
        failed.update(record.failed_tool_calls)
    return {name: {"calls": count, "failed": failed[name]} for name, count in sorted(calls.items())}
