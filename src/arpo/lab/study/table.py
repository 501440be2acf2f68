"""`table.md`: the study as tables in Markdown, from its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from arpo.lab.study.arm_results import COLD_START, RunResult
from arpo.lab.study.claims import JudgedClaim
from arpo.lab.study.claims_config import ClaimConfig
from arpo.lab.study.comparisons import Estimate
from arpo.lab.study.measures import POINTS, QUESTION_MEASURES
from arpo.lab.study.results import INTERVAL, ArmSummary, StudyResults
from arpo.viewer.markdown import markdown_table

Cell = Callable[[float | None], str]

POINT_NAMES: Mapping[str, str] = {
    "steps": "equal steps", "tool_calls": "equal tool calls", "sampled_tokens": "equal sampled tokens", "time": "equal time",
}  # fmt: skip


class Table(NamedTuple):
    """A table of text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_words: int = 1
    """First columns that hold words; the others hold numbers."""


def markdown(results: StudyResults) -> str:
    """All tables, each with its notes."""
    parts = [f"# Study\n\n{lead(results)}"]
    parts += [f"## {table.title}\n\n{_grid(table)}" for table in tables(results).values() if table.rows]
    return "\n\n".join([*parts, *notes()]) + "\n"


def tables(results: StudyResults) -> dict[str, Table]:
    """Every table, in order, by a short name."""
    return {
        "accuracy": _accuracy_table(results),
        "claims": _claims_table(results),
        **{f"against_{other}": _difference_table(results, other) for other in results.baselines},
        "cost": _cost_table(results),
        "learning": _learning_table(results),
        "rates": _rate_table(results),
        "runs": _run_table(results),
    }


def lead(results: StudyResults) -> str:
    """What was run, in two sentences."""
    study = results.study
    worlds = len({world for world, _ in study.runs})
    arms = [summary.arm for name, summary in results.arms.items() if name != COLD_START]
    trained, planned = sum(len(arm.runs) for arm in arms), sum(arm.num_planned for arm in arms)
    return (
        f"{len(arms)} arms, up to {len(study.runs)} runs each over {worlds} world(s), compared at step {study.num_steps} "
        f"and at the budgets of {study.budget_arm}. {trained} of {planned} runs are trained. {study.num_test:,} test "
        f"questions per world."
    )


def notes() -> list[str]:
    """How to read the tables."""
    return [
        f"[low, high]: 95 % interval, {INTERVAL['method']}, {INTERVAL['num_resamples']:,} resamples. With few runs it is too "
        "narrow (of one, it knows other questions alone), so claims show Student's interval over the runs' values too, and are "
        "judged by both; results.json has it for every figure. Nothing is corrected for the number of comparisons.",
        "Equal tool calls, sampled tokens, time: at the last checkpoint at which a run had spent no more than the budget arm's "
        "run with the same world and seed. *: a run ended before its budget was used up. -: not measured, or not yet.",
    ]


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number as tables show it; `-` for None."""
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def with_interval(estimate: Estimate | None, sign: bool = False) -> str:
    """An estimate as `0.868 [0.851, 0.884]`; `-` for None."""
    if estimate is None:
        return "-"
    value, low, high = (number(x, sign=sign) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _accuracy_table(results: StudyResults) -> Table:
    k = results.study.num_samples
    header = ["arm", "runs", *(POINT_NAMES[p] for p in POINTS), *(["sampled", f"pass@{k}"] if k else [])]
    rows: list[list[str]] = []
    for name, summary in results.arms.items():
        tests = summary.tests
        sampled = tests.get("steps") or tests.get("time") or tests.get("start") or {}
        cells = [_test_cell(summary, point) for point in POINTS]
        if "start" in tests:
            cells[0] = _test_cell(summary, "start")
        if k:
            cells += [with_interval(sampled.get(metric)) for metric in ("sampled_accuracy", "pass_at_k")]
        num_tested = max((len(estimates["accuracy"].runs) for estimates in tests.values()), default=0)
        rows.append([name, f"{num_tested}/{summary.arm.num_planned}", *cells])
    return Table("Accuracy on test questions, greedy; sampled ones at equal steps, of controls at equal time", header, rows)


def _test_cell(summary: ArmSummary, point: str) -> str:
    accuracy = summary.tests.get(point, {}).get("accuracy")
    return with_interval(accuracy) + (" *" if summary.short_runs(point) else "")


def _difference_table(results: StudyResults, other: str) -> Table:
    rows = [
        [name, *(with_interval(summary.against[other].get(point, {}).get("accuracy"), sign=True) for point in POINTS)]
        for name, summary in results.arms.items()
        if other in summary.against
    ]
    title = f"Accuracy minus that of {other}, same worlds, seeds and questions"
    return Table(title, ["arm", *(POINT_NAMES[p] for p in POINTS)], rows)


def _training_table(results: StudyResults, title: str, columns: Sequence[tuple[str, str, Cell]]) -> Table:
    rows = [
        [name, *(cell(getattr(summary.training.get(metric), "value", None)) for metric, _, cell in columns)]
        for name, summary in results.arms.items()
        if summary.training
    ]
    return Table(title, ["arm", *(heading for _, heading, _ in columns)], rows)


def _two(value: float | None) -> str:
    return number(value, 2)


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _cost_table(results: StudyResults) -> Table:
    table = _training_table(results, f"What {results.study.num_steps} steps cost", [
        ("tool_calls_per_task", "tool calls issued per task", _two),
        ("tool_calls_executed_per_task", "executed per task", _two),
        ("tool_calls_per_trajectory", "issued per trajectory", _two),
        ("tool_calls_executed_per_trajectory", "executed per trajectory", _two),
        ("tokens_sampled", "tokens sampled per step", _count),
        ("tokens_unique", "unique tokens trained per step", _count),
        ("tokens_total", "leaf by leaf", _count),
    ])  # fmt: skip
    timed = [[*row, _two(results.arms[row[0]].arm.step_seconds)] for row in table.rows]
    return Table(table.title, [*table.header, "seconds per step, alone"], timed)


def _learning_table(results: StudyResults) -> Table:
    return _training_table(results, "How it learned", [
        ("entropy_start", "policy entropy, start", number),
        ("entropy_end", "end", number),
        ("entropy_spread", "spread", number),
        ("clip_fraction_low", "clipped low", lambda x: number(x, 4)),
        ("clip_fraction_high", "clipped high", lambda x: number(x, 4)),
        ("distinct_answers", "distinct answers per group", _two),
        ("distinct_call_sequences", "distinct call sequences", _two),
        ("mixed_group_rate", "mixed groups", number),
        ("branch_rate", "branch rate", number),
        ("entropy_at_start", "entropy at start", number),
        ("entropy_after_search", "after search", number),
        ("entropy_after_python", "after Python", number),
    ])  # fmt: skip


def _rate_table(results: StudyResults) -> Table:
    arms = [summary.arm for summary in results.arms.values() if summary.arm.tried]
    rates = list(dict.fromkeys(rate for arm in arms for rate in arm.tried))
    rows = [
        [arm.name, f"{arm.learning_rate:g}" if arm.learning_rate else "-", *(number(arm.tried.get(rate)) for rate in rates)]
        for arm in arms
    ]
    header = ["arm", "chosen", *(f"{rate:g}" for rate in rates)]
    return Table("Learning rates: validation accuracy on the first run", header, rows)


def _run_table(results: StudyResults) -> Table:
    rows = [[f"{name} {run.name}", *_run_cells(run)] for name, summary in results.arms.items() for run in summary.arm.runs]
    header = ["arm, world-seed", *(f"{POINT_NAMES[p]} (step)" for p in POINTS), "calls per task", "entropy, start", "end"]
    return Table("Every run: accuracy, greedy, and the step tested", header, rows)


def _run_cells(run: RunResult) -> Iterator[str]:
    for point in POINTS:
        test = run.tests.get(point) or (run.tests.get("start") if point == "steps" else None)
        yield f"{number(test.accuracy)} ({test.step}){' *' if test.is_short else ''}" if test else "-"
    for name in ("tool_calls_per_task", "entropy_start", "entropy_end"):
        yield number(run.training.metrics.get(name))


def _claims_table(results: StudyResults) -> Table:
    """The claims that something can be said of, then those left out."""
    rows = [_claim_row(judged) for judged in sorted(results.claims, key=lambda judged: judged.estimate is None)]
    header = ["claim", "figure", "verdict", "holds if", "found", "Student's interval"]
    return Table("Claims", header, rows, num_words=4)


def _claim_row(judged: JudgedClaim) -> list[str]:
    claim = judged.claim
    is_signed = claim.measure == "difference" and claim.against is not None
    intervals = with_interval(judged.estimate, is_signed), _student(judged.estimate, is_signed)
    return [claim.about, describe(claim), judged.left_out or VERDICTS[judged.verdict], bound(claim), *intervals]


VERDICTS: Mapping[str, str] = {"holds": "holds", "fails": "does not hold", "open": "open", "none": ""}


def describe(claim: ClaimConfig) -> str:
    """What a claim's metric is: `accuracy, arpo - grpo, equal steps`."""
    sign = "/" if claim.measure == "ratio" else "-"
    point = f", {POINT_NAMES[claim.at]}" if claim.figure in QUESTION_MEASURES else ""
    if claim.against_figure:
        return f"{claim.figure} of {claim.of} {sign} {claim.against_figure} of {claim.against}{point}"
    return f"{claim.figure}, {claim.of}{f' {sign} {claim.against}' if claim.against else ''}{point}"


def bound(claim: ClaimConfig) -> str:
    """`> 0` or `< 0.55`; empty for none."""
    if claim.above is not None:
        return f"> {claim.above:g}"
    return "" if claim.below is None else f"< {claim.below:g}"


def _student(estimate: Estimate | None, sign: bool) -> str:
    if estimate is None or estimate.t_low is None:
        return "-"
    return f"[{number(estimate.t_low, sign=sign)}, {number(estimate.t_high, sign=sign)}]"


def _grid(table: Table) -> str:
    rows = [[cell.replace("|", "/") for cell in row] for row in table.rows]
    return markdown_table(table.header, rows, table.num_words)
