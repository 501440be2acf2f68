"""The charts of a study, from its results."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from arpo.lab.study.arm_results import COLD_START
from arpo.lab.study.comparisons import Estimate
from arpo.lab.study.measures import POINTS, QUESTION_MEASURES
from arpo.lab.study.results import ArmSummary, StudyResults
from arpo.lab.study.table import POINT_NAMES, describe
from arpo.viewer.plot_style import BLUE, INK, MUTED, ORANGE, PURPLE, STYLE, TEAL, save_png

Point = tuple[float, float]
"""(x, y)"""

_STYLE = {**STYLE, "axes.titlepad": 8, "axes.titlesize": 11, "font.size": 10}
_ARMS_PER_PANEL = 3
"""Besides the reference arms, with which all others are compared."""
_LINES = ((TEAL, "s", "-"), (PURPLE, "^", "-"), (INK, "D", (0, (4, 2))))
"""Colour, marker and dash of the arms of a panel, told apart without colour too."""
_REFERENCES = ((BLUE, "o", "-"), (ORANGE, "v", "-"), (MUTED, "P", "-"))


@dataclass(slots=True, frozen=True)
class Marks:
    """One kind of mark in a panel of rows."""

    label: str
    of: Callable[[ArmSummary], Estimate | None]
    """Arm -> its estimate; None draws none."""
    is_hollow: Callable[[ArmSummary], bool] = lambda _: False
    """Arm -> whether its mark is hollow."""


@dataclass(slots=True, frozen=True)
class Panel:
    """A panel with arms as rows."""

    title: str
    marks: Sequence[Marks]


def draw_charts(results: StudyResults, folder: Path) -> list[Path]:
    """Draw every chart that has data; return the files."""
    with rc_context(_STYLE):
        drawn = [(name, figure) for name, (_, draw) in CHARTS.items() if (figure := draw(results)) is not None]
        return [save_png(figure, folder / f"{name}.png") for name, figure in drawn]


def _accuracy(results: StudyResults) -> Figure | None:
    def at(point: str) -> Marks:
        def estimate(arm: ArmSummary) -> Estimate | None:
            return arm.tests.get(point, arm.tests.get("start", {})).get("accuracy")

        return Marks("", estimate, is_hollow=lambda arm: bool(arm.short_runs(point)))

    known = {point for arm in results.arms.values() for point in arm.tests}
    panels = [Panel(POINT_NAMES[point], [at(point)]) for point in POINTS if point in known]
    return _rows(results, panels, is_one_scale=True)


def _training(name: str) -> Callable[[ArmSummary], Estimate | None]:
    return lambda arm: arm.training.get(name)


def _cost(results: StudyResults) -> Figure | None:
    def seconds(arm: ArmSummary) -> Estimate | None:
        value = arm.arm.step_seconds
        if value is None or not arm.training:
            return None
        return Estimate(value=value, low=value, high=value, t_low=None, t_high=None, runs={})

    return _rows(results, [
        Panel("tool calls per task", [
            Marks("issued", _training("tool_calls_per_task")), Marks("executed", _training("tool_calls_executed_per_task")),
        ]),
        Panel("tokens per step", [Marks("sampled", _training("tokens_sampled")), Marks("trained", _training("tokens_unique"))]),
        Panel("seconds per step, alone", [Marks("", seconds)]),
    ])  # fmt: skip


def _groups(results: StudyResults) -> Figure | None:
    return _rows(results, [
        Panel("distinct answers", [Marks("", _training("distinct_answers"))]),
        Panel("distinct call sequences", [Marks("", _training("distinct_call_sequences"))]),
        Panel("groups with mixed outcomes", [Marks("", _training("mixed_group_rate"))]),
    ])  # fmt: skip


def _tool_entropy(results: StudyResults) -> Figure | None:
    names = {"at the start": "entropy_at_start", "after search": "entropy_after_search", "after Python": "entropy_after_python"}
    marks = [Marks(label, _training(name)) for label, name in names.items()]
    return _rows(results, [Panel("mean entropy of the first k tokens, nats", marks)])


def _rows(results: StudyResults, panels: Sequence[Panel], *, is_one_scale: bool = False) -> Figure | None:
    """Panels side by side, an arm a row; hollow where a run ended before its budget did."""
    arms = results.arms
    panels = [panel for panel in panels if any(marks.of(arm) for marks in panel.marks for arm in arms.values())]
    names = [name for name in arms if any(marks.of(arms[name]) for panel in panels for marks in panel.marks)]
    if not names:
        return None
    has_legend = any(len(panel.marks) > 1 for panel in panels)
    figure = _figure(max(3.0 * len(panels) + 2.0, 9.0), 0.27 * len(names) + 0.9 + 0.35 * has_legend)
    first: Axes | None = None
    for column, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), column, sharey=first, sharex=first if is_one_scale else None)
        first = first or axes
        _draw_rows(axes, panel, results, names)
        axes.tick_params("y", labelleft=column == 1)
    return figure


def _draw_rows(axes: Axes, panel: Panel, results: StudyResults, names: Sequence[str]) -> None:
    styles = [("o", True), ("s", False), ("^", True)]
    offsets = {1: (0.0,), 2: (0.14, -0.14), 3: (0.22, 0.0, -0.22)}[len(panel.marks)]
    colors = dict(_colors(results))
    for marks, (marker, is_filled), offset in zip(panel.marks, styles, offsets, strict=False):
        for row, name in enumerate(names):
            estimate = marks.of(results.arms[name])
            if estimate is None:
                continue
            color = colors.get(name, INK)
            axes.plot([estimate.low, estimate.high], [row - offset] * 2, color=color, linewidth=1.6)
            axes.plot(
                estimate.value, row - offset, marker=marker, markersize=5.5, color=color, linestyle="",
                markerfacecolor=color if is_filled and not marks.is_hollow(results.arms[name]) else "white",
            )  # fmt: skip
        if marks.label:
            axes.plot([], [], marker, color=INK, markerfacecolor=INK if is_filled else "white", label=marks.label, linestyle="")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.set_title(panel.title)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(colors.get(name, INK))
    if len(panel.marks) > 1:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.24 / len(names) ** 0.5), ncols=3, handletextpad=0.1, columnspacing=1
        )


def _claims(results: StudyResults) -> Figure | None:
    """Differences of accuracy with both intervals: the thick one is the bootstrap's, the thin one Student's."""
    estimates: dict[str, Estimate] = {}
    for judged in results.claims:  # two claims may set bounds to one difference
        if judged.estimate and judged.claim.against and judged.claim.figure in QUESTION_MEASURES:
            estimates[describe(judged.claim).removeprefix(f"{judged.claim.figure}, ")] = judged.estimate
    if not estimates:
        return None
    figure = _figure(11.0, 0.3 * len(estimates) + 0.9)
    axes = figure.add_subplot()
    for row, estimate in enumerate(estimates.values()):
        color = MUTED if estimate.low <= 0 <= estimate.high else INK
        if estimate.t_low is not None and estimate.t_high is not None:
            axes.plot([estimate.t_low, estimate.t_high], [row, row], color=color, linewidth=1)
        axes.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=3.2)
        axes.plot(estimate.value, row, "o", color="white", markeredgecolor=color, markersize=6)
    axes.axvline(0, color=MUTED, linewidth=1, zorder=0)
    axes.set_yticks(range(len(estimates)), [*estimates])
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    _limit(axes, estimates.values())
    axes.grid(True, axis="x")
    axes.set_xlabel("difference; thick: bootstrap, thin: Student over runs; grey: the bootstrap holds 0")
    return figure


def _limit(axes: Axes, estimates: Collection[Estimate]) -> None:
    """The axis holds the bootstrap's intervals; Student's of two runs would leave no room for the others."""
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)]
    room = 0.15 * max(max(ends) - min(ends), 0.02)
    axes.set_xlim(min(*ends, 0.0) - room, max(*ends, 0.0) + room)


def _accuracy_by_calls(results: StudyResults) -> Figure | None:
    cold_start = results.arms[COLD_START].tests.get("start")
    start = {(0.0, cold_start["accuracy"].value)} if cold_start else set()

    def points(arm: ArmSummary) -> list[Point]:
        trained: set[Point] = set()
        for point in POINTS:
            tests = [run.tests[point] for run in arm.arm.runs if point in run.tests]
            calls = [test.tool_calls for test in tests if test.tool_calls is not None]
            if tests and len(calls) == len(tests):
                trained.add((fmean(calls) / 1000, fmean(test.accuracy for test in tests)))
        return sorted(trained | start) if trained else []

    return _panels(results, points, "tool calls issued, thousands", "accuracy", has_marks=True)


def _policy_entropy(results: StudyResults) -> Figure | None:
    return _panels(results, lambda arm: [(step, h) for step, h, _ in arm.entropy_by_step()], "step", "policy entropy, nats")


def _panels(
    results: StudyResults, points: Callable[[ArmSummary], Sequence[Point]], x: str, y: str, *, has_marks: bool = False
) -> Figure | None:
    """Lines, a few arms per panel beside the reference arms."""
    lines = {name: line for name, arm in results.arms.items() if (line := points(arm))}
    if not lines:
        return None
    references = [name for name, _ in _colors(results) if name in lines]
    arms = [name for name in lines if name not in references]
    chunks = [arms[i : i + _ARMS_PER_PANEL] for i in range(0, len(arms), _ARMS_PER_PANEL)] or [[]]
    columns = min(3, len(chunks))
    rows = -(-len(chunks) // columns)
    figure = _figure(4.0 * columns, 3.3 * rows)
    first: Axes | None = None
    for number, chunk in enumerate(chunks, start=1):
        axes = figure.add_subplot(rows, columns, number, sharex=first, sharey=first)
        first = first or axes
        colors = dict(_colors(results))
        for name, (color, marker, dash) in (
            *((n, style) for n, style in zip(references, _REFERENCES, strict=False)),
            *((n, style) for n, style in zip(chunk, cycle(_LINES), strict=False)),
        ):
            axes.plot(
                *zip(*lines[name], strict=True), color=colors.get(name, color), label=name, linestyle=dash,
                linewidth=3 if name in references else 1.5,  # lines that are equal show both
                marker=marker if has_marks else "", markersize=5,
            )  # fmt: skip
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8.5, handlelength=1.7, borderaxespad=0.2, columnspacing=1
        )
        axes.set_xlabel(x)
        axes.set_ylabel(y if number % columns == 1 or columns == 1 else "")
    return figure


def _colors(results: StudyResults) -> Iterator[tuple[str, str]]:
    """(name, colour) of the reference arms, the budget arm first; the colours are the same in every chart."""
    names = dict.fromkeys((results.study.budget_arm, *results.baselines))
    yield from zip(names, (color for color, _, _ in _REFERENCES), strict=False)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure


CHARTS: Mapping[str, tuple[str, Callable[[StudyResults], Figure | None]]] = {
    "accuracy": ("Accuracy on test questions, greedy", _accuracy),
    "claims": ("Claims about accuracy: differences", _claims),
    "accuracy_by_calls": ("Accuracy by tool calls issued in training", _accuracy_by_calls),
    "cost": ("What a step costs", _cost),
    "groups": ("How different a group's trajectories are", _groups),
    "policy_entropy": ("Policy entropy over training", _policy_entropy),
    "tool_entropy": ("Entropy after tool results", _tool_entropy),
}
"""Name of the file -> title and what draws it."""
