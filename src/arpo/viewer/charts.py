"""Line charts as inline SVG: the page's style sheet gives the colours; each chart holds the texts of its hover."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 44
"""Margins of the plot, in drawing units."""

Unit = Literal["", "%", "nats", "s"]


@dataclass(slots=True, frozen=True, kw_only=True)
class Series:
    """One line."""

    label: str
    points: Sequence[tuple[float, float]]
    """(x, y) in order of x."""
    color: int
    """1 to 4: index in the palette of the style sheet."""
    half_width: Sequence[float | None] = ()
    """[P] half the height of the band around each point; None: no band there; empty: no band."""
    count: Sequence[int] = ()
    """[P] observations of each point, for the hover; empty: not shown."""
    style: Literal["line", "faint", "dots"] = "line"
    """`faint`: raw values of a smoothed line; `dots`: a line with a mark at each point."""


@dataclass(slots=True, frozen=True)
class Reference:
    """A horizontal line to compare with."""

    label: str
    value: float


@dataclass(slots=True, frozen=True, kw_only=True)
class Chart:
    """A drawn chart with its legend, hover and table."""

    title: str
    svg: Markup
    legend: list[tuple[str, int, str]]
    """(label, colour, style) of each series."""
    hover: list[dict[str, Any]]
    """One per x: `x` in drawing units and the `lines` to show."""
    header: list[str]
    table: list[list[str]]
    """The same values as text."""
    note: str = ""


@dataclass(slots=True, frozen=True)
class Frame:
    """Maps data to drawing units."""

    x_low: float
    x_high: float
    ticks: list[float]
    """Of the y axis, which ends at the first and the last of them."""
    unit: Unit = ""

    def x(self, value: float) -> float:
        """Horizontal position of a value."""
        share = (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Vertical position of a value; one beyond the axis lies at its end."""
        low, high = self.ticks[0], self.ticks[-1]
        share = (min(max(value, low), high) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    unit: Unit = "",
    references: Sequence[Reference] = (),
    from_zero: bool = False,
    note: str = "",
) -> Chart | None:
    """Draw series over a common x axis; None when no series has a point.

    The y axis stays within what can be: shares (`unit` `%`) within 0 and 1, everything `from_zero` at 0 and above; a band that
    goes beyond is cut there.
    """
    drawn = [s for s in series if s.points]
    if not drawn:
        return None
    frame = _frame(drawn, references, unit, from_zero)
    label = f"{title}. {y_label} by {x_label}: " + "; ".join(
        f"{s.label} ends at {number(s.points[-1][1], unit)}" for s in drawn
    )
    parts = [
        *axes(frame, x_label, y_label, _whole_ticks(frame)),
        *(_reference(frame, r, i) for i, r in enumerate(sorted(references, key=lambda r: r.value))),
        *(_band(frame, s) for s in drawn if any(s.half_width)),
        *(_line(frame, s) for s in sorted(drawn, key=lambda s: s.style != "faint")),
    ]
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    xs = sorted({x for s in drawn for x, _ in s.points})
    rows = [[_cell(s, x, unit) for s in drawn] for x in xs]
    hover = [
        {
            "x": frame.x(x),
            "lines": [f"{x_label} {number(x)}"] + [f"{s.label}: {c}" for s, c in zip(drawn, row, strict=True) if c],
        }
        for x, row in zip(xs, rows, strict=True)
    ]
    return Chart(
        title=title,
        svg=Markup(svg),
        legend=[(s.label, s.color, s.style) for s in drawn],
        hover=hover,
        header=[x_label, *(s.label for s in drawn)],
        table=[[number(x), *row] for x, row in zip(xs, rows, strict=True)],
        note=note,
    )


def number(value: float, unit: Unit = "") -> str:
    """A number for people: `0.1234` -> `12.3%`, `0.123 nats`, and `12,345` for large counts."""
    if unit == "%":
        return f"{100 * value:.1f}%"
    if value == int(value) and abs(value) < 1e15:
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.3g}"
    return f"{text} {unit}".strip()


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that cover [low, high]; steps are 1, 2 or 5 times a power of ten.

    A range of one value gets room around it, half of the value on either side.

    Example:
        nice_ticks(0.03, 0.97)  # -> [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 12 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, last + 1)]


def moving_average(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Each point's mean with its neighbours, `window` points in all and fewer at the ends.

    Example:
        moving_average([(1, 0), (2, 3), (3, 6)], 3)  # -> [(1, 1.5), (2, 3), (3, 4.5)]
    """
    half = window // 2
    values = [y for _, y in points]
    spans = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [(x, sum(span) / len(span)) for (x, _), span in zip(points, spans, strict=True)]


def axes(frame: Frame, x_label: str, y_label: str, x_ticks: Sequence[float]) -> list[str]:
    """Grid lines, tick labels and axis labels as SVG."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts: list[str] = []
    for tick in frame.ticks:
        y = frame.y(tick)
        text = f"{100 * tick:.4g}%" if frame.unit == "%" else f"{tick:,.4g}" if abs(tick) < 10_000 else _short(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{text}</text>')
    for tick in x_ticks:
        parts.append(f'<text class="tick" x="{frame.x(tick)}" y="{bottom + 18}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<text class="axis" x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text class="axis" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return parts


def _frame(series: Sequence[Series], references: Sequence[Reference], unit: Unit, from_zero: bool) -> Frame:
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points] + [r.value for r in references] + ([0.0] if from_zero else [])
    for s in series:
        for (_, y), half in zip(s.points, s.half_width, strict=False):
            ys += [y - (half or 0), y + (half or 0)]
    return Frame(min(xs), max(xs), nice_ticks(*_span(ys, unit, from_zero)), unit)


def _span(values: Sequence[float], unit: Unit, from_zero: bool) -> tuple[float, float]:
    """The lowest and the highest value within what can be; one value alone is shown from 0."""
    low, high = min(values), max(values)
    if unit == "%":
        low, high = (min(max(value, 0.0), 1.0) for value in (low, high))
        return (low, high) if low < high else (0.0, 1.0)
    if from_zero:
        low, high = max(low, 0.0), max(high, 0.0)
        return (low, high) if low < high else (0.0, high or 1.0)
    return low, high


def _whole_ticks(frame: Frame) -> list[float]:
    ticks = [t for t in nice_ticks(frame.x_low, frame.x_high, 6) if frame.x_low <= t <= frame.x_high and t == int(t)]
    return ticks or [frame.x_low]


def _short(value: float) -> str:
    return f"{value / 1e6:.4g}M" if abs(value) >= 1e6 else f"{value / 1e3:.4g}k"


def _reference(frame: Frame, reference: Reference, index: int) -> str:
    y, right = frame.y(reference.value), WIDTH - RIGHT
    # The label of the lowest line lies below it, every other above, so that labels of close lines do not overlap.
    offset = 14 if index == 0 and y < HEIGHT - BOTTOM - 16 else -5
    return (
        f'<line class="reference" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
        f'<text class="reference" x="{right}" y="{y + offset}" text-anchor="end">{escape(reference.label)} '
        f"{number(reference.value, frame.unit)}</text>"
    )


def _band(frame: Frame, series: Series) -> str:
    edges = [(frame.x(x), y, half) for (x, y), half in zip(series.points, series.half_width, strict=True) if half is not None]
    upper = [f"{x},{frame.y(y + half)}" for x, y, half in edges]
    lower = [f"{x},{frame.y(y - half)}" for x, y, half in reversed(edges)]
    return f'<polygon class="band c{series.color}" points="{" ".join(upper + lower)}"/>'


def _line(frame: Frame, series: Series) -> str:
    points = [(frame.x(x), frame.y(y)) for x, y in series.points]
    path = " ".join(f"{x},{y}" for x, y in points)
    line = f'<polyline class="{series.style} c{series.color}" points="{path}"/>'
    is_marked = series.style == "dots" or len(points) == 1
    return line + "".join(f'<circle class="c{series.color}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in points if is_marked)


def _cell(series: Series, x: float, unit: Unit) -> str:
    for index, (at, y) in enumerate(series.points):
        if at == x:
            half = series.half_width[index] if series.half_width else None
            spread = f" ± {number(half, unit)}" if half is not None else ""
            return number(y, unit) + spread + (f" (n = {series.count[index]:,})" if series.count else "")
    return ""
