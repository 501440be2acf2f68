"""Two curves of a run as one picture for a README: accuracy, and entropy around tool results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from arpo.errors import DataError
from arpo.tracking import series
from arpo.tree.entropy import EntropyCurve
from arpo.viewer.charts import moving_average
from arpo.viewer.plot_style import BLUE, MUTED, ORANGE, STYLE, save_png
from arpo.viewer.report_content import MIN_SHARE
from arpo.viewer.run import RunRecord, read_run


def write_picture(out_png: Path, run: Path, summary: Mapping[str, Any] | None = None) -> Path:
    """Draw accuracy over training beside entropy by distance from the last tool result; return `out_png`.

    `summary` is that of `write_report`.

    Raises:
        DataError: the run has neither an accuracy nor a rollout tree to draw.
    """
    record = read_run(run, summary)
    has_accuracy = bool(series(record.rows, "rollout/accuracy") or series(record.rows, "valid/accuracy"))
    panels = [_draw_learning] * has_accuracy + [_draw_entropy] * bool(record.entropy.after_tool.mean)
    if not panels:
        raise DataError(f"{run}: nothing to draw: no accuracy in metrics.jsonl and no tool result in rollouts/")
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6 * len(panels), 3.7), dpi=200, facecolor="white")
        figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1)
        for column, draw in enumerate(panels, start=1):
            draw(figure.add_subplot(1, len(panels), column), record)
        return save_png(figure, out_png)


def _draw_learning(axes: Axes, record: RunRecord) -> None:
    sampled, validation = (series(record.rows, name) for name in ("rollout/accuracy", "valid/accuracy"))
    if sampled:
        smooth = moving_average(sampled, len(sampled) // 20 * 2 + 1)
        axes.plot(*zip(*sampled, strict=True), color=BLUE, alpha=0.25, linewidth=1)
        axes.plot(*zip(*smooth, strict=True), color=BLUE, label="training, sampled")
    if validation:
        axes.plot(*zip(*validation, strict=True), color=ORANGE, marker="o", markersize=5, label="validation, greedy")
    marks = [
        ("cold start", record.summary.get("accuracy_before")),
        ("demonstrator", record.summary.get("demonstrator_accuracy")),
    ]
    known = sorted(((value, label) for label, value in marks if value is not None), reverse=True)
    for (value, label), side in zip(known, (1, -1), strict=False):  # the upper label above its line, the lower one below
        axes.axhline(value, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        axes.annotate(
            f"{label} {value:.0%}", (1, value), xycoords=("axes fraction", "data"), xytext=(0, 3 * side),
            textcoords="offset points", ha="right", va="bottom" if side > 0 else "top", fontsize=9.5,
        )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 1.0))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(title="Accuracy over training", xlabel="step", ylabel="right answers")
    _finish(axes)


def _draw_entropy(axes: Axes, record: RunRecord) -> None:
    _draw_curve(axes, record.entropy.before_tools, "no tool result yet", BLUE)
    _draw_curve(axes, record.entropy.after_tool, "after a tool result", ORANGE)
    axes.set_ylim(bottom=0)
    axes.set(title="Entropy around tool results", xlabel="distance in sampled tokens", ylabel="mean entropy (nats)")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3, handlelength=1.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _draw_curve(axes: Axes, curve: EntropyCurve, label: str, color: str) -> None:
    curve = curve.common(MIN_SHARE)
    distances = range(len(curve.mean))
    axes.plot(distances, curve.mean, color=color, label=label, marker="o", markersize=3.5)
    pairs = list(zip(curve.mean, curve.standard_error, strict=True))
    low, high = ([m + sign * 1.96 * (e or 0) for m, e in pairs] for sign in (-1, 1))
    axes.fill_between(distances, low, high, color=color, alpha=0.15, linewidth=0)
