"""`report.md` and `report.html` of a finished evaluation, from its files alone. Torch-free."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from arpo.errors import DataError
from arpo.evaluation.metrics import EVAL_METRICS, group_by_task, mean_score, sampled_metrics
from arpo.evaluation.records import Mode, Record, read_records
from arpo.evaluation.results import RESULTS_FILE
from arpo.files.whole import write_text
from arpo.tree import RolloutTree, read_trees
from arpo.viewer.evaluation import Estimate, EvaluationPage, MetricRow, ShownQuestion, write_evaluation
from arpo.viewer.markdown import markdown_table

_MAX_FAILURES = 50
"""Questions that failed, in the report; `failures.jsonl` holds all."""
Interval = Mapping[str, Any]
"""An interval of `results.json`: value, low, high, num_questions."""


def write_reports(run: Path) -> None:
    """Write `report.md` and `report.html` of the evaluation in the folder `run`.

    Raises:
        DataError: a file is missing or damaged.
    """
    results, settings = read_results(run), _settings(run)
    write_text(run / "report.md", markdown(run.name, results, settings))
    write_evaluation(run / "report.html", _page(run, results, settings), _trees(run, results))


def read_results(run: Path) -> dict[str, Any]:
    """The `results.json` of a finished evaluation.

    Raises:
        DataError: the folder has none.
    """
    path = run / RESULTS_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot read these results ({error}); `arpo eval` writes them when it ends, "
            f"and `arpo eval --resume {run}` goes on with an evaluation that was stopped"
        ) from error


def markdown(name: str, results: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    """The Markdown report."""
    modes = list(results["figures"])
    lines = [f"# Evaluation {name}", "", _lead(results), ""]
    if results["num_failed"]:
        lines += ["## Questions that failed", "", markdown_table(["task", "mode", "error"], _failed_rows(results)), ""]
        lines += [f"`arpo eval --resume` asks them again. The first {_MAX_FAILURES} at most are shown.", "", "## Figures", ""]
    lines.append(markdown_table(["", *(f"{m}, [95 %]" for m in modes), "meaning"], _markdown_rows(results, modes)))
    for key, values in results["groups"].items():
        lines += ["", f"## {_metric_name(results)} by {key.replace('_', ' ')}", ""]
        rows = [
            [value, _with_interval(row[results["mode"]], "score"), str(row["num_questions"])] for value, row in values.items()
        ]
        lines.append(markdown_table([key, f"{results['mode']}, [95 %]", "questions"], rows))
    if results["tools"]:
        lines += ["", "## Tools", ""]
        rows = [[name, f"{t['calls']:,}", f"{t['failed']:,}"] for name, t in results["tools"].items()]
        lines.append(markdown_table(["tool", "calls", "failed"], rows))
    lines += ["", "## What the grader said", "", f"Of the {results['mode']} answers.", ""]
    lines.append(
        markdown_table(["reason", "answers"], [[_cell(reason), f"{count:,}"] for reason, count in results["reasons"].items()])
    )
    lines += ["", "## Settings", "", markdown_table(["", ""], [[key, _cell(value)] for key, value in settings.items()])]
    return "\n".join([*lines, "", *_notes(results), "", "Every question with its trees is in `report.html`."]) + "\n"


def _lead(results: Mapping[str, Any]) -> str:
    samples = f", {results['num_samples']} samples each" if results["num_samples"] else ""
    ungraded = f" {results['num_ungraded']:,} answers could not be graded and count nowhere." if results["num_ungraded"] else ""
    failed = f" {results['num_failed']:,} of the questions failed and count nowhere." if results["num_failed"] else ""
    score = _with_interval(results["figures"][results["mode"]], "score")
    headline = f"{_metric_name(results)}, {results['mode']}: {score}."
    return f"{results['num_questions']:,} questions{samples}. {headline}{ungraded}{failed}"


def _failed_rows(results: Mapping[str, Any]) -> list[list[str]]:
    return [[_cell(row["task_id"]), row["mode"], _cell(row["error"])] for row in results["failures"][:_MAX_FAILURES]]


def _notes(results: Mapping[str, Any]) -> list[str]:
    how = results["interval"]
    notes = [
        f"Intervals: {how['method']}, {how['num_resamples']:,} resamples; they cover another draw of questions, "
        "not another training run.",
    ]
    if results["num_samples"]:
        notes.append("pass@k is the unbiased estimate; maj@k votes over normalised answers, the earliest of equals wins.")
    return notes


def _page(run: Path, results: Mapping[str, Any], settings: Mapping[str, str]) -> EvaluationPage:
    modes: list[Mode] = list(results["figures"])
    return EvaluationPage(
        title=f"Evaluation {run.name}",
        lead=_lead(results),
        tiles=list(_tiles(results)),
        modes=modes,
        metrics=[
            MetricRow(name=name, meaning=meaning, cells=[_estimate("", results["figures"][m].get(name)) for m in modes])
            for name, meaning in _meanings(results)
        ],
        groups={key: list(_bars(values, results["mode"])) for key, values in results["groups"].items()},
        group_metric=_metric_name(results),
        notes=_notes(results),
        questions=_questions(read_records(run), results["mode"]),
        settings=settings,
    )  # fmt: skip


def _bars(values: Mapping[str, Any], mode: str) -> Iterator[Estimate]:
    for value, row in values.items():
        note = f"of {row['num_questions']}"
        yield _estimate(value, row[mode]["score"], note=note, has_bar=True) or Estimate(name=value, text="–", note=note)


def _tiles(results: Mapping[str, Any]) -> Iterator[Estimate]:
    main, k = results["figures"][results["mode"]], results["num_samples"]
    note = _speaks_of(main, "score")
    tiles = [_estimate(f"{_metric_name(results)}, {results['mode']}", main["score"], note=note, has_bar=True)]
    if k:
        sampled, names = results["figures"]["sampled"], dict.fromkeys(("pass@1", f"pass@{k}", f"maj@{k}"))
        tiles += [_estimate(f"{name}, sampled", sampled[name], note=_speaks_of(sampled, name), has_bar=True) for name in names]
    tiles += [_estimate("tool calls per answer", main["tool_calls"]), _estimate("tokens per answer", main["tokens"])]
    return (tile for tile in tiles if tile is not None)


def _estimate(name: str, interval: Interval | None, *, note: str = "", has_bar: bool = False) -> Estimate | None:
    if interval is None or interval["value"] is None:
        return None
    low, value, high = interval["low"], interval["value"], interval["high"]
    bar = (low, value, high) if has_bar and low >= 0 and high <= 1 else None
    return Estimate(name=name, text=_number(value), interval=_range(interval), note=note, bar=bar)


def _questions(records: Sequence[Record], mode: Mode) -> list[ShownQuestion]:
    return [_question(answers, [r for r in answers if r.mode == mode]) for answers in group_by_task(records).values()]


def _question(answers: Sequence[Record], main: Sequence[Record]) -> ShownQuestion:
    main = main or answers  # a question may have failed in one mode alone
    first = main[0]
    return ShownQuestion(
        id=first.task_id,
        question=first.question,
        references=first.references,
        answer=first.extracted,
        extraction=first.extraction,
        reason=first.reason,
        share=mean_score(main),
        num_right=sum(r.is_correct is True for r in answers),
        num_answers=len(answers),
        num_tool_calls=fmean(r.num_tool_calls for r in main),
        num_tokens=fmean(r.num_sampled_tokens for r in main),
        groups=first.groups,
    )


def _trees(run: Path, results: Mapping[str, Any]) -> Iterator[tuple[str, str, RolloutTree]]:
    for mode in results["figures"]:
        for tree in read_trees(run / "rollouts" / f"{mode}.jsonl.zst"):
            yield tree.task.id, mode, tree


def _settings(run: Path) -> dict[str, str]:
    """The main keys of the configuration."""
    path = run / "config.toml"
    config = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    protocol = config.get("agent", {}).get("protocol", {})
    settings = {
        "policy": config.get("model", {}).get("path"), "benchmark": config.get("benchmark"),
        "server's model": config.get("engine", {}).get("model"), "tasks": config.get("tasks"), "seed": config.get("seed"),
        "temperature of samples": config.get("temperature") if config.get("num_samples") else None,
        "engine": config.get("engine", {}).get("type"), "tools": ", ".join(protocol.get("tools", [])),
    }  # fmt: skip
    return {name: str(value) for name, value in settings.items() if value not in (None, "")}


def _meanings(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, metric.meaning) for name, metric in (EVAL_METRICS | sampled_metrics(results["num_samples"])).items()]


def _markdown_rows(results: Mapping[str, Any], modes: Sequence[str]) -> list[list[str]]:
    by_mode = results["figures"]
    return [[name, *(_with_interval(by_mode[m], name) for m in modes), meaning] for name, meaning in _meanings(results)]


def _metric_name(results: Mapping[str, Any]) -> str:
    return str(results["metric"]).replace("_", " ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _with_interval(figures: Mapping[str, Interval], name: str) -> str:
    interval = figures.get(name)
    if interval is None or interval["value"] is None:
        return "–"
    return " ".join([f"{_number(interval['value'])} [{_range(interval)}]", *filter(None, [_speaks_of(figures, name)])])


def _speaks_of(figures: Mapping[str, Interval], name: str) -> str:
    """Of how many questions a figure speaks, where it is not all that were answered; empty otherwise."""
    counts = {key: interval["num_questions"] for key, interval in figures.items()}
    return f"(of {counts[name]} of {max(counts.values())} questions)" if counts.get(name, 0) < max(counts.values()) else ""


def _range(interval: Interval) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
