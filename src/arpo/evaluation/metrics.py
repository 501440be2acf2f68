"""The metrics of an evaluation. Each is made of one share per question, so all have intervals and paired comparisons."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import numpy as np

from arpo.evaluation.bootstrap import Interval, bootstrap_ratios
from arpo.evaluation.majority import majority
from arpo.evaluation.pass_at_k import pass_at_k
from arpo.evaluation.records import AnswerTime, Mode, Record

R = TypeVar("R", Record, AnswerTime)


@dataclass(slots=True, frozen=True, kw_only=True)
class Question:
    """A question with its answers of one mode."""

    task_id: str
    text: str
    groups: Mapping[str, str]
    answers: Sequence[Record]
    """In the order of samples."""
    times: Sequence[AnswerTime]
    """Of the answers, in their order; empty when unknown."""


@dataclass(slots=True, frozen=True)
class Share:
    """The share of one question in a metric, which is the sum of `num` over the sum of `den`."""

    num: float
    den: float = 1.0


@dataclass(slots=True, frozen=True)
class EvalMetric:
    """A metric of an evaluation."""

    unit: str
    """`1` for shares and ratios; `%` is never used."""
    meaning: str
    of: Callable[[Question], Share | None]
    """The share of a question; None when it has none."""


NOTHING = Share(0.0, 0.0)


def mean_of(value: Callable[[Record], float | None]) -> Callable[[Question], Share | None]:
    """The mean over those answers of a question that have a value."""

    def share(question: Question) -> Share | None:
        values = [x for x in map(value, question.answers) if x is not None]
        return Share(fmean(values)) if values else None

    return share


def mean_score(answers: Sequence[Record]) -> float | None:
    """The mean score of a question's graded answers; None when none is graded."""
    scores = [record.score for record in answers if record.score is not None]
    return fmean(scores) if scores else None


def _mean_time(name: str) -> Callable[[Question], Share | None]:
    def share(question: Question) -> Share | None:
        return Share(fmean(getattr(t, name) for t in question.times)) if question.times else None

    return share


def _productivity(question: Question) -> Share | None:
    return Share(
        float(sum(r.is_correct is True for r in question.answers)), float(sum(r.num_tool_calls for r in question.answers))
    )


EVAL_METRICS: dict[str, EvalMetric] = {
    "score": EvalMetric("1", "the metric's score, mean over samples", mean_of(lambda r: r.score)),
    "accuracy": EvalMetric("1", "right answers by judge, else grader, else reward", mean_of(lambda r: r.is_correct)),
    "exact_match": EvalMetric("1", "the boxed answer equals a reference", mean_of(lambda r: r.exact_match)),
    "f1": EvalMetric("1", "token F1 of the boxed answer with the best reference", mean_of(lambda r: r.f1)),
    "reward": EvalMetric("reward", "the reward of training", mean_of(lambda r: r.reward)),
    "format_valid": EvalMetric("1", "answers without a format fault", mean_of(lambda r: r.format_valid)),
    "answered": EvalMetric("1", "answers with an answer block", mean_of(lambda r: float(r.answer is not None))),
    "tool_calls": EvalMetric("count", "tool calls per answer", mean_of(lambda r: r.num_tool_calls)),
    "tool_productivity": EvalMetric("1", "right answers per tool call", _productivity),
    "tokens": EvalMetric("tokens", "sampled tokens per answer", mean_of(lambda r: r.num_sampled_tokens)),
    "seconds": EvalMetric("s", "wall time per question, waiting included", _mean_time("seconds")),
    "tool_seconds": EvalMetric("s", "wall time of an answer's tool calls", _mean_time("tool_seconds")),
}
"""By name; `pass@k` and `maj@k` join them where there are samples."""


def sampled_metrics(num_samples: int) -> dict[str, EvalMetric]:
    """`pass@k` for k = 1, 2, 4, … and the number of samples, and `maj@k` for that number."""
    if num_samples < 1:
        return {}
    sizes = sorted({2**i for i in range(num_samples.bit_length())} | {num_samples})
    passes = {f"pass@{k}": EvalMetric("1", f"a right one among {k} answers, unbiased", _pass_at(k)) for k in sizes}
    return passes | {f"maj@{num_samples}": EvalMetric("1", f"the score of the majority of {num_samples} answers", _majority)}


def _pass_at(k: int) -> Callable[[Question], Share | None]:
    def share(question: Question) -> Share | None:
        graded = [r.is_correct for r in question.answers if r.is_correct is not None]
        return Share(pass_at_k(len(graded), sum(graded), k)) if len(graded) >= k else None

    return share


def _majority(question: Question) -> Share | None:
    index = majority([r.extracted for r in question.answers])
    score = 0.0 if index is None else question.answers[index].score
    return None if score is None else Share(score)


def questions_of(records: Sequence[Record], mode: Mode, times: Sequence[AnswerTime] = ()) -> list[Question]:
    """The questions answered in a mode, in the order of their first record."""
    times_of = group_by_task(time for time in times if time.mode == mode)
    return [
        Question(task_id=id_, text=rows[0].question, groups=rows[0].groups, answers=rows, times=times_of.get(id_, ()))
        for id_, rows in group_by_task(record for record in records if record.mode == mode).items()
    ]


def group_by_task(rows: Iterable[R]) -> dict[str, list[R]]:
    """Task id -> its rows, both in the order of the rows."""
    groups: dict[str, list[R]] = {}
    for row in rows:
        groups.setdefault(row.task_id, []).append(row)
    return groups


def measure(questions: Sequence[Question], metrics: Mapping[str, EvalMetric], seed: int = 0) -> dict[str, Interval]:
    """The metrics over the questions, each with its bootstrap interval."""
    shares = [[metric.of(question) or NOTHING for metric in metrics.values()] for question in questions]
    size = (len(questions), len(metrics))
    numerators = np.array([[s.num for s in row] for row in shares], dtype=np.float64).reshape(size)
    denominators = np.array([[s.den for s in row] for row in shares], dtype=np.float64).reshape(size)
    return dict(zip(metrics, bootstrap_ratios(numerators, denominators, seed=seed), strict=True))
