"""The study as tables, a picture and JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from arpo.files.whole import write_text
from arpo.lab.bias.measurement import Measurement
from arpo.lab.bias.run import BiasStudy
from arpo.viewer.markdown import markdown_table
from arpo.viewer.plot_style import save_png

EXACT = 1e-12
"""Biases below this are the rounding of sums that are zero."""
STYLES = (("#b2182b", "s"), ("#f4a582", "D"), ("#67a9cf", "v"), ("#2166ac", "o"), ("#053061", "^"))
"""Colour and marker of the estimators of the right panel."""


def write_study(study: BiasStudy, out: Path) -> None:
    """Write `bias.json`, `bias.md` (the tables) and `bias.png` into a folder."""
    write_text(out / "bias.json", json.dumps(asdict(study), indent=1))
    write_text(out / "bias.md", tables(study))
    save_png(draw(study), out / "bias.png")


def tables(study: BiasStudy) -> str:
    """The tables in Markdown; biases in percent of |g|."""
    parts = [
        "## Bias, M = 4, N = 2 (exact, % of the gradient; `0` is below 1e-12)",
        _grid(study.exact, lambda f: _percent(f.bias)),
        "## Variance of one group, M = 4, N = 2 (exact, in units of the squared gradient)",
        _grid(study.exact, lambda f: f"{f.variance:.2f}"),
        "## Attribution and aggregation, M = 4, N = 2 (exact)",
        _list(study.further),
    ]
    if study.policies:
        parts += [
            f"## Bias under {len(study.policies)} other policies, M = 4, N = 2 (exact, %, least to greatest)",
            _ranges(study.policies),
        ]
    parts += [
        f"## Bias, M = 16, N = 8 ({study.num_groups} groups sampled, %, 95 % interval)",
        _grid(study.sampled, _with_interval),
        "## Sampled tokens for a given accuracy, M = 16, N = 8 (variance of one group * its tokens)",
        _grid(study.sampled, lambda f: f"{f.cost:.1f}"),
    ]
    return "\n\n".join(parts) + "\n"


def _percent(bias: float) -> str:
    return "0" if bias < EXACT else f"{100 * bias:.1f}"


def _with_interval(measurement: Measurement) -> str:
    low, high = measurement.interval or (measurement.bias, measurement.bias)
    return f"{100 * measurement.bias:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _grid(measurements: Sequence[Measurement], cell: Callable[[Measurement], str]) -> str:
    growths, estimators = _axes(measurements)
    cells = {(f.growth, f.estimator): cell(f) for f in measurements}
    tokens = {f.growth: f"{f.num_tokens:.1f}" for f in measurements}
    rows = [[g, *(cells[g, e] for e in estimators), tokens[g]] for g in growths]
    return markdown_table(["rule", *estimators, "tokens"], rows)


def _list(measurements: Sequence[Measurement]) -> str:
    rows = [
        [f.growth, f.estimator, _percent(f.bias), f"{f.scale:.4f}", f"{f.cosine:.4f}", f"{f.variance:.3f}"]
        for f in measurements
    ]
    return markdown_table(["rule", "estimator", "bias %", "scale", "cosine", "variance"], rows)


def _ranges(policies: Sequence[Sequence[Measurement]]) -> str:
    growths, estimators = _axes(policies[0])
    biases = {(f.growth, f.estimator): sorted(_bias_of(p, f.growth, f.estimator) for p in policies) for f in policies[0]}
    rows = [[g, *(f"{_percent(biases[g, e][0])} to {_percent(biases[g, e][-1])}" for e in estimators)] for g in growths]
    return markdown_table(["rule", *estimators], rows)


def _bias_of(measurements: Sequence[Measurement], growth: str, estimator: str) -> float:
    return next(f.bias for f in measurements if (f.growth, f.estimator) == (growth, estimator))


def _axes(measurements: Sequence[Measurement]) -> tuple[list[str], list[str]]:
    return list(dict.fromkeys(f.growth for f in measurements)), list(dict.fromkeys(f.estimator for f in measurements))


def draw(study: BiasStudy) -> Figure:
    """The exact biases as a map, and the sampled ones with their intervals."""
    figure = Figure(figsize=(17, 7.5), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _draw_map(left, study.exact)
    _draw_intervals(right, study.sampled)
    return figure


def _draw_map(axes: Axes, measurements: Sequence[Measurement]) -> None:
    growths, estimators = _axes(measurements)
    biases = np.array([[_bias_of(measurements, g, e) for e in estimators] for g in growths])
    shown = np.where(biases < EXACT, np.nan, biases)
    colours = matplotlib.colormaps["YlOrRd"].with_extremes(bad="#d9efdf")
    axes.imshow(shown, cmap=colours, norm=PowerNorm(0.6, 0.0, 0.45), aspect="auto")
    for row, column in np.ndindex(*biases.shape):
        value = float(biases[row, column])
        colour = "white" if value > 0.25 else "black"
        axes.text(column, row, _percent(value), ha="center", va="center", color=colour, fontsize=9)
    labels = [e.replace("inverse_branching", "inverse") for e in estimators]
    axes.set_xticks(range(len(estimators)), labels, fontsize=9, rotation=30, ha="right")
    axes.set_yticks(range(len(growths)), growths, fontsize=9)
    axes.axvline(len(estimators) / 2 - 0.5, color="black", linewidth=1)
    axes.set_title("Bias in % of the gradient, every group enumerated (M = 4, N = 2); 0 is exact", fontsize=11)


def _draw_intervals(axes: Axes, measurements: Sequence[Measurement]) -> None:
    growths, estimators = _axes(measurements)
    for index, (estimator, (colour, marker)) in enumerate(zip(estimators, STYLES, strict=True)):
        rows = [f for f in measurements if f.estimator == estimator]
        heights = [growths.index(f.growth) + 0.14 * (index - (len(estimators) - 1) / 2) for f in rows]
        biases = np.array([100 * f.bias for f in rows])
        ends = 100 * np.array([f.interval or (f.bias, f.bias) for f in rows])
        spans = np.abs(np.stack([biases - ends[:, 0], ends[:, 1] - biases]))
        axes.errorbar(
            biases, heights, xerr=spans, label=estimator, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1.2
        )
    axes.set_yticks(range(len(growths)), growths, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(left=-0.5)
    axes.set_xlabel("bias, % of the gradient")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="upper right")
    axes.set_title("Sampled groups with 95 % intervals (M = 16, N = 8)", fontsize=11)
