"""Stacked histograms as inline SVG, with the frame and the style of the line charts."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from arpo.viewer.charts import BOTTOM, HEIGHT, TOP, WIDTH, Chart, Frame, axes, nice_ticks, number

NUM_BINS = 24
"""About as many bins; their edges are round numbers, zero among them where it is in range."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Layer:
    """One part of every bar."""

    label: str
    values: Sequence[float]
    color: int
    """1 to 5: index in the palette of the style sheet."""


def histogram(title: str, layers: Sequence[Layer], *, x_label: str, y_label: str, note: str = "") -> Chart | None:
    """Draw how often values occur, the first layer at the bottom; None without a value.

    A bin holds its upper edge, not its lower: zero counts among the values that are not positive.

    Example: values 0, 0.1 and 0.3 with edges -0.2, 0, 0.2, 0.4: one value in each bin.
    """
    layers = [layer for layer in layers if layer.values]
    if not layers:
        return None
    edges = _edges([value for layer in layers for value in layer.values])
    step, num_bins = edges[1] - edges[0], len(edges) - 1
    counts = [Counter(_bin(value, edges[0], step, num_bins) for value in layer.values) for layer in layers]
    totals = [sum(count[index] for count in counts) for index in range(num_bins)]
    frame = Frame(edges[0], edges[-1], nice_ticks(0, max(totals)))
    ticks = [tick for tick in nice_ticks(edges[0], edges[-1], 6) if edges[0] <= tick <= edges[-1]]
    parts = axes(frame, x_label, y_label, ticks)
    for index in range(num_bins):
        below = 0
        for layer, count in zip(layers, counts, strict=True):
            parts += _bar(frame, edges, index, below, below + count[index], layer.color)
            below += count[index]
    if edges[0] < 0 < edges[-1]:
        x = frame.x(0)
        parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    label = f"{title}. {y_label} by {x_label}: " + "; ".join(f"{layer.label} {len(layer.values):,}" for layer in layers)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    spans = [f"{number(low)} to {number(high)}" for low, high in pairwise(edges)]
    rows = [[f"{count[index]:,}" for count in counts] for index in range(num_bins)]
    return Chart(
        title=title,
        svg=Markup(svg),
        legend=[(layer.label, layer.color, "bar") for layer in layers],
        hover=[
            {
                "x": frame.x((edges[index] + edges[index + 1]) / 2),
                "lines": [spans[index], *(f"{la.label}: {n}" for la, n in zip(layers, rows[index], strict=True) if n != "0")],
            }
            for index in range(num_bins)
        ],
        header=[x_label, *(layer.label for layer in layers)],
        table=[[span, *row] for span, row in zip(spans, rows, strict=True)],
        note=note,
    )


def _edges(values: Sequence[float]) -> list[float]:
    edges = nice_ticks(min(values), max(values), NUM_BINS)
    if min(values) <= edges[0]:  # no bin holds its lower edge
        edges = [edges[0] - (edges[1] - edges[0]), *edges]
    return edges


def _bin(value: float, first: float, step: float, num_bins: int) -> int:
    return min(max(0, math.ceil((value - first) / step - 1e-9) - 1), num_bins - 1)


def _bar(frame: Frame, edges: Sequence[float], index: int, low: int, high: int, color: int) -> list[str]:
    if high == low:
        return []
    x, width = frame.x(edges[index]), frame.x(edges[index + 1]) - frame.x(edges[index])
    y, height = frame.y(high), frame.y(low) - frame.y(high)
    size = f'width="{max(width - 1, 0.5):.1f}" height="{max(height, 0.5):.1f}"'
    return [f'<rect class="c{color}" x="{x + 0.5:.1f}" y="{y}" {size}/>']
