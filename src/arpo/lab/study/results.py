"""The results of a study: what tables, charts and `results.json` show; and `questions.parquet`: the answers behind them.

`results.json` holds (an *estimate* is {value, low, high, t_low, t_high, runs}, see `arpo.lab.study.comparisons.Estimate`):

format          1
study           runs, num_steps, budget_arm, num_test, num_samples, compare_with
interval        method, confidence, num_resamples
measures        figure -> {unit, meaning}
arms            name -> what `_arm` documents; "cold start" first
claims          the claim's own keys, name, estimate, verdict, left_out (why nothing can be said)

`questions.parquet` has a row per policy, point and question: arm, world, seed (null for a cold start), point, step, task_id,
right, num_samples, num_right. A policy that two points share has its rows under both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arpo.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES
from arpo.files.whole import whole
from arpo.lab.study.arm_results import ArmResult, PolicyTest, RunResult
from arpo.lab.study.claims import JudgedClaim, judge
from arpo.lab.study.comparisons import Estimate, ResampledMetrics, collect_metrics, difference, estimate
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.measures import MEASURES, POINTS, QUESTION_MEASURES, RUN_MEASURES

FORMAT = 1
INTERVAL = {
    "method": "percentile bootstrap over runs and, within each world, over questions", "confidence": CONFIDENCE,
    "num_resamples": NUM_RESAMPLES,
}  # fmt: skip
"""How the interval of every estimate is made."""

Estimates = Mapping[str, Estimate]
"""Metric -> its estimate; a metric that no run has is absent."""


@dataclass(slots=True, frozen=True, kw_only=True)
class ArmSummary:
    """An arm over all of its runs."""

    arm: ArmResult
    tests: Mapping[str, Estimates]
    """Point -> estimates of the tests there."""
    against: Mapping[str, Mapping[str, Estimates]]
    """Other arm -> point -> estimates of the difference to it."""
    training: Estimates

    def short_runs(self, point: str) -> list[str]:
        """Runs that ended before their budget did."""
        return [run.name for run in self.arm.runs if point in run.tests and run.tests[point].is_short]

    def entropy_by_step(self) -> list[tuple[int, float, int]]:
        """(step, mean policy entropy over runs in nats, number of runs)."""
        by_step: dict[int, list[float]] = {}
        for run in self.arm.runs:
            for step, value in run.training.entropy_by_step:
                by_step.setdefault(step, []).append(value)
        return [(step, fmean(values), len(values)) for step, values in sorted(by_step.items())]


@dataclass(slots=True, frozen=True, kw_only=True)
class StudyResults:
    """A study, as far as it has come."""

    study: StudyConfig
    baselines: Sequence[str]
    """Arms that all others are compared with, the budget arm last."""
    arms: Mapping[str, ArmSummary]
    """By name; "cold start" first."""
    claims: Sequence[JudgedClaim]


def make_results(study: StudyConfig, arms: Sequence[ArmResult]) -> StudyResults:
    """Estimate every metric of every arm, and judge the claims."""
    metrics = collect_metrics(arms)
    baselines = list(dict.fromkeys((*study.compare_with, study.budget_arm)))
    return StudyResults(
        study=study,
        baselines=baselines,
        arms={arm.name: _summary(arm, metrics, baselines) for arm in arms},
        claims=judge(study.claims, metrics),
    )


def _summary(arm: ArmResult, metrics: ResampledMetrics, baselines: Sequence[str]) -> ArmSummary:
    def tests(point: str) -> Estimates:
        return _known((name, estimate(metrics.of(arm.name, name, point))) for name in QUESTION_MEASURES)

    def differences(other: str, point: str) -> Estimates:
        pairs = ((name, metrics.of(arm.name, name, point), metrics.of(other, name, point)) for name in QUESTION_MEASURES)
        return _known((name, difference(of, against)) for name, of, against in pairs)

    against = {
        other: {point: known for point in POINTS if (known := differences(other, point))}
        for other in baselines
        if other != arm.name
    }
    return ArmSummary(
        arm=arm,
        tests={point: tests(point) for point in dict.fromkeys(point for run in arm.runs for point in run.tests)},
        against={other: by_point for other, by_point in against.items() if by_point},
        training=_known((name, estimate(metrics.of(arm.name, name, ""))) for name in RUN_MEASURES),
    )


def _known(estimates: Iterable[tuple[str, Estimate | None]]) -> Estimates:
    return {name: value for name, value in estimates if value is not None}


def to_json(results: StudyResults) -> dict[str, Any]:
    """The content of `results.json`."""
    study = results.study
    keys = ("num_steps", "budget_arm", "num_test", "num_samples")
    return {
        "format": FORMAT,
        "study": {
            "runs": study.runs, **{key: getattr(study, key) for key in keys}, "compare_with": results.baselines,
        },
        "interval": INTERVAL,
        "measures": {name: asdict(measure) for name, measure in MEASURES.items()},
        "arms": {name: _arm(summary) for name, summary in results.arms.items()},
        "claims": [_claim(claim) for claim in results.claims],
    }  # fmt: skip


def _arm(summary: ArmSummary) -> dict[str, Any]:
    """One arm.

    `runs_trained` of `runs_planned` are finished; `learning_rate` is the one chosen, `tried` the validation accuracy of each on
    the first run; `step_seconds` is the time of a step alone on the machine. `tests`: point -> figure -> estimate, and
    `short_runs`, those that ended before their budget; `against`: other arm -> point -> figure -> estimate of the difference
    to it; `training`: figure -> estimate; `entropy_by_step`: [step, mean over runs, number of runs]; `branch_rate_by_turn`: of
    the saved trees of all runs; `runs`: each with its tests and metrics.
    """
    arm = summary.arm
    return {
        "about": arm.about,
        "runs_planned": arm.num_planned,
        "runs_trained": len(arm.runs),
        "learning_rate": arm.learning_rate,
        "tried": {f"{rate:g}": accuracy for rate, accuracy in arm.tried.items()},
        "step_seconds": arm.step_seconds,
        "tests": {p: {"short_runs": summary.short_runs(p)} | _as_dicts(tests) for p, tests in summary.tests.items()},
        "against": {
            other: {p: _as_dicts(differences) for p, differences in by_point.items()}
            for other, by_point in summary.against.items()
        },
        "training": _as_dicts(summary.training),
        "entropy_by_step": summary.entropy_by_step(),
        "branch_rate_by_turn": _branch_rates(arm.runs),
        "runs": {run.name: _run(run) for run in arm.runs},
    }  # fmt: skip


def _as_dicts(estimates: Estimates) -> dict[str, Any]:
    return {name: asdict(value) for name, value in estimates.items()}


def _branch_rates(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    counts: dict[int, list[int]] = {}
    for run in runs:
        for row in run.training.branch_rate_by_turn:
            total = counts.setdefault(row["turn"], [0, 0])
            total[0] += row["num_opportunities"]
            total[1] += row["num_branches"]
    return [
        {"turn": turn, "num_opportunities": n, "num_branches": k, "branch_rate": k / n if n else None}
        for turn, (n, k) in sorted(counts.items())
    ]


def _run(run: RunResult) -> dict[str, Any]:
    """One run.

    `tests`: point -> step, tool calls issued by then, spent, budget, is_short, num_questions and a value per figure;
    `training`: figure -> value; `num_trees`: saved trees behind its metrics of trees.
    """
    return {
        "world": run.world,
        "seed": run.seed,
        "tests": {point: _test(test) for point, test in run.tests.items()},
        "training": run.training.metrics,
        "entropy_by_step": run.training.entropy_by_step,
        "branch_rate_by_turn": run.training.branch_rate_by_turn,
        "num_trees": run.training.num_trees,
    }


def _test(test: PolicyTest) -> dict[str, Any]:
    spent, budget = (test.reached.spent, test.reached.budget) if test.reached else (None, None)
    return {
        "step": test.step, "tool_calls": test.tool_calls, "spent": spent, "budget": budget, "is_short": test.is_short,
        "num_questions": len(test.answers.task_ids),
        **{name: float(values.mean()) for name, values in test.answers.metrics.items()},
    }  # fmt: skip


def _claim(judged: JudgedClaim) -> dict[str, Any]:
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


def _columns(arm: str, run: RunResult, point: str, test: PolicyTest) -> dict[str, list[Any]]:
    answers = test.answers
    size = len(answers.task_ids)
    same = {"arm": arm, "world": run.world, "seed": run.seed, "point": point, "step": test.step}
    return {name: [value] * size for name, value in same.items()} | {
        "task_id": [*answers.task_ids], "right": [value == 1.0 for value in answers.metrics["accuracy"]],
        "num_samples": [*answers.num_samples], "num_right": [*answers.num_right],
    }  # fmt: skip
