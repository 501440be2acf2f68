"""`results.json`: every number behind the tables and figures of a study; and `questions.parquet`: the answers behind those.

`results.json` holds (an *estimate* is {value, low, high, t_low, t_high, runs}, see `arpo.study.comparisons.Estimate`):

format          1
study           runs, num_steps, budget_arm, num_test, num_samples, compare_with
interval        method, confidence, num_resamples
measures        figure -> {unit, meaning}
arms            name -> what `_arm` documents; "cold start" first
claims          the claim's own keys, name, estimate, verdict, left_out (why nothing can be said)

`questions.parquet` has a row per policy, point and question: arm, world, seed (null for a cold start), point, step, task_id,
right, num_samples, num_right. A policy that two points share has its rows under both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arpo.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES
from arpo.files.whole import whole
from arpo.study.arm_results import ArmResult, PolicyTest, RunResult
from arpo.study.claims import JudgedClaim, judge
from arpo.study.comparisons import Estimate, ResampledMetrics, collect_metrics, difference, estimate
from arpo.study.config import StudyConfig
from arpo.study.measures import MEASURES, POINTS, QUESTION_MEASURES, RUN_MEASURES

FORMAT = 1

Results = dict[str, Any]
"""The content of `results.json`."""


def make_results(study: StudyConfig, arms: Sequence[ArmResult]) -> Results:
    """All results of what was found."""
    figures = collect_metrics(arms)
    baselines = dict.fromkeys((*study.compare_with, study.budget_arm))
    return {
        "format": FORMAT,
        "study": {
            "runs": [list(run) for run in study.runs], "num_steps": study.num_steps, "budget_arm": study.budget_arm,
            "num_test": study.num_test, "num_samples": study.num_samples, "compare_with": list(baselines),
        },
        "interval": {
            "method": "percentile bootstrap over runs and, within each world, over questions", "confidence": CONFIDENCE,
            "num_resamples": NUM_RESAMPLES,
        },
        "measures": {name: asdict(measure) for name, measure in MEASURES.items()},
        "arms": {arm.name: _arm(arm, figures, [*baselines]) for arm in arms},
        "claims": [_claim(claim) for claim in judge(study.claims, figures)],
    }  # fmt: skip


def _arm(arm: ArmResult, figures: ResampledMetrics, baselines: Sequence[str]) -> Results:
    """One arm.

    `runs_trained` of `runs_planned` are finished; `learning_rate` is the one chosen, `tried` the validation accuracy of each on
    the first run; `step_seconds` is the time of a step alone on the machine. `tests`: point -> figure -> estimate, and
    `short_runs`, those that ended before their budget; `against`: other arm -> point -> figure -> estimate of the difference
    to it; `training`: figure -> estimate; `entropy_by_step`: [step, mean over runs, number of runs]; `branch_rate_by_turn`: of
    the saved trees of all runs; `runs`: each with its tests and figures.
    """
    points = [*dict.fromkeys(point for run in arm.runs for point in run.tests)]
    return {
        "about": arm.about,
        "runs_planned": arm.num_planned,
        "runs_trained": len(arm.runs),
        "learning_rate": arm.learning_rate,
        "tried": {f"{rate:g}": accuracy for rate, accuracy in arm.tried.items()},
        "step_seconds": arm.step_seconds,
        "tests": {point: _tests(arm, figures, point) for point in points},
        "against": {
            other: found for other in baselines if other != arm.name and (found := _against(arm.name, other, figures))
        },
        "training": {
            name: asdict(found) for name in RUN_MEASURES if (found := estimate(figures.of(arm.name, name, ""))) is not None
        },
        "entropy_by_step": _entropy_by_step(arm.runs),
        "branch_rate_by_turn": _branch_rates(arm.runs),
        "runs": {run.name: _run(run) for run in arm.runs},
    }  # fmt: skip


def _tests(arm: ArmResult, figures: ResampledMetrics, point: str) -> Results:
    short = [run.name for run in arm.runs if point in run.tests and run.tests[point].is_short]
    return {"short_runs": short} | _estimates(
        (name, estimate(figures.of(arm.name, name, point))) for name in QUESTION_MEASURES
    )  # fmt: skip


def _against(arm: str, other: str, figures: ResampledMetrics) -> Results:
    found: Results = {}
    for point in POINTS:
        differences = _estimates(
            (name, difference(figures.of(arm, name, point), figures.of(other, name, point))) for name in QUESTION_MEASURES
        )
        if differences:
            found[point] = differences
    return found


def _estimates(found: Iterator[tuple[str, Estimate | None]]) -> Results:
    return {name: asdict(value) for name, value in found if value is not None}


def _entropy_by_step(runs: Sequence[RunResult]) -> list[tuple[int, float, int]]:
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for step, value in run.training.entropy_by_step if run.training else ():
            by_step.setdefault(step, []).append(value)
    return [(step, fmean(values), len(values)) for step, values in sorted(by_step.items())]


def _branch_rates(runs: Sequence[RunResult]) -> list[Results]:
    counts: dict[int, list[int]] = {}
    for run in runs:
        for row in run.training.branch_rate_by_turn if run.training else ():
            total = counts.setdefault(row["turn"], [0, 0])
            total[0] += row["num_opportunities"]
            total[1] += row["num_branches"]
    return [
        {"turn": turn, "num_opportunities": n, "num_branches": k, "branch_rate": k / n if n else None}
        for turn, (n, k) in sorted(counts.items())
    ]


def _run(run: RunResult) -> Results:
    """One run.

    `tests`: point -> step, tool calls issued by then, spent, budget, is_short, num_questions and a value per figure;
    `training`: figure -> value; `num_trees`: saved trees behind its figures of trees.
    """
    training = run.training
    return {
        "world": run.world,
        "seed": run.seed,
        "tests": {point: _test(test) for point, test in run.tests.items()},
        "training": dict(training.figures) if training else {},
        "entropy_by_step": list(training.entropy_by_step) if training else [],
        "branch_rate_by_turn": list(training.branch_rate_by_turn) if training else [],
        "num_trees": training.num_trees if training else 0,
    }


def _test(test: PolicyTest) -> Results:
    return {
        "step": test.step, "tool_calls": test.tool_calls, "spent": test.spent, "budget": test.budget, "is_short": test.is_short,
        "num_questions": len(test.answers.task_ids),
        **{name: float(values.mean()) for name, values in test.answers.figures.items()},
    }  # fmt: skip


def _claim(judged: JudgedClaim) -> Results:
    return {
        "name": judged.name,
        **judged.claim.model_dump(),
        "estimate": asdict(judged.estimate) if judged.estimate else None,
        "verdict": judged.verdict,
        "left_out": judged.left_out,
    }


def write_questions(path: Path, arms: Sequence[ArmResult]) -> Path:
    """Write `questions.parquet`, whole or not at all; return its path."""
    with whole(path) as partial, pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
        for arm in arms:
            for run in arm.runs:
                for point, test in run.tests.items():
                    writer.write_table(pa.table(_columns(arm.name, run, point, test), schema=_SCHEMA))
    return path


_SCHEMA = pa.schema([
    ("arm", pa.dictionary(pa.int32(), pa.string())), ("world", pa.int32()), ("seed", pa.int32()),
    ("point", pa.dictionary(pa.int32(), pa.string())), ("step", pa.int32()), ("task_id", pa.string()), ("right", pa.bool_()),
    ("num_samples", pa.int32()), ("num_right", pa.int32()),
])  # fmt: skip


def _columns(arm: str, run: RunResult, point: str, test: PolicyTest) -> Mapping[str, pa.Array]:
    answers = test.answers
    size = len(answers.task_ids)
    same = {"arm": arm, "world": run.world, "seed": run.seed, "point": point, "step": test.step}
    columns: dict[str, list[Any]] = {name: [value] * size for name, value in same.items()}
    columns |= {
        "task_id": [*answers.task_ids], "right": [value == 1.0 for value in answers.figures["accuracy"]],
        "num_samples": [*answers.num_samples], "num_right": [*answers.num_right],
    }  # fmt: skip
    return {field.name: pa.array(columns[field.name]).cast(field.type) for field in _SCHEMA}
