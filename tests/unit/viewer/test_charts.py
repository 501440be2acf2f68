import xml.etree.ElementTree as ElementTree

import pytest

from arpo.viewer.charts import HEIGHT, WIDTH, Reference, Series, line_chart, moving_average, nice_ticks, number


def svg_of(chart) -> ElementTree.Element:
    assert chart is not None
    return ElementTree.fromstring(str(chart.svg))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.03, 0.97, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 40, [0, 10, 20, 30, 40]),
        (-0.02, 0.003, [-0.02, -0.015, -0.01, -0.005, 0.0, 0.005]),
        (2e-6, 4.1e-6, [2e-6, 2.5e-6, 3e-6, 3.5e-6, 4e-6, 4.5e-6]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-9, 1e-15])
def test_ticks_of_a_single_value_surround_it(value):
    ticks = nice_ticks(value, value)
    assert ticks[0] <= value <= ticks[-1]
    assert ticks[0] < ticks[-1]


def test_moving_average_shortens_at_the_ends():
    # ends: (0+3)/2 and (3+6)/2; middle: (0+3+6)/3
    assert moving_average([(1, 0.0), (2, 3.0), (3, 6.0)], 3) == [(1, 1.5), (2, 3.0), (3, 4.5)]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "%", "12.3%"), (0.5217, "nats", "0.522 nats"), (0.0, "", "0"),
        (12345, "", "12,345"), (2.0, "", "2"), (1234.6, "", "1,235"), (1e-6, "", "1e-06"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, unit, text):
    assert number(value, unit) == text


def test_points_lie_where_arithmetic_says():
    chart = line_chart("t", [Series(label="a", points=[(0, 0.0), (10, 1.0)], color=1)], x_label="step", y_label="y")
    (line,) = [e for e in svg_of(chart).iter() if e.get("class") == "line c1"]
    # plot area: x from 66 to 560 - 14, y from 300 - 44 (value 0) up to 14 (value 1)
    assert line.get("points") == f"66.0,{HEIGHT - 44}.0 {WIDTH - 14}.0,14.0"


def test_everything_drawn_stays_inside():
    wild = Series(label="a", points=[(1, 0.2), (2, 0.9)], color=1, half_width=[5.0, None], style="dots")
    chart = line_chart("t", [wild], x_label="x", y_label="y", unit="%", references=[Reference("ceiling", 0.95)])
    for element in svg_of(chart).iter():
        for pair in (element.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_hover_and_table_hold_the_values_of_every_series_at_each_x():
    chart = line_chart(
        "t",
        [
            Series(label="a", points=[(0, 0.5), (1, 0.25)], color=1, half_width=[0.1, None], count=[40, 9]),
            Series(label="b", points=[(1, 2.0)], color=2),
        ],
        x_label="distance", y_label="y", unit="nats",
    )  # fmt: skip
    assert chart is not None
    assert chart.table == [["0", "0.5 nats ± 0.1 nats (n = 40)", ""], ["1", "0.25 nats (n = 9)", "2 nats"]]
    assert [point["lines"] for point in chart.hover] == [
        ["distance 0", "a: 0.5 nats ± 0.1 nats (n = 40)"],
        ["distance 1", "a: 0.25 nats (n = 9)", "b: 2 nats"],
    ]


def test_no_points_is_no_chart():
    assert line_chart("t", [Series(label="a", points=[], color=1)], x_label="x", y_label="y") is None


def test_labels_are_escaped():
    chart = line_chart("<b>&", [Series(label='"><script>', points=[(0, 1.0)], color=1)], x_label="x<", y_label="y&")
    assert not [e for e in svg_of(chart).iter() if "script" in e.tag]


@pytest.mark.parametrize(
    ("values", "unit", "from_zero", "lowest", "highest"),
    [
        ([0.0, 0.0], "%", True, 0, 1),  # a share that never moves: all that can be
        ([1.0, 1.0], "%", False, 0, 1),
        ([0.4, 0.4], "%", False, 0, 1),
        ([0.02, 0.99], "%", False, 0, 1),
        ([0.0, 0.0], "", True, 0, 1),  # counts
        ([7.0, 7.0], "", True, 0, 8),  # ticks of 2
        ([0.1, 0.3], "nats", True, 0, 0.5),
        ([-0.3, 0.2], "", False, -0.3, 0.2),  # a loss may be negative
    ],
)
def test_an_axis_stays_within_what_can_be(values, unit, from_zero, lowest, highest):
    """Ticks are the numbers at the left edge: none below zero or above a whole where that cannot be."""
    points = list(enumerate(values))
    chart = line_chart(
        "t", [Series(label="a", points=points, color=1)], x_label="x", y_label="y", unit=unit, from_zero=from_zero
    )
    ticks = [float((e.text or "").rstrip("%")) for e in svg_of(chart).iter() if e.get("text-anchor") == "end" and e.text]
    scale = 100 if unit == "%" else 1
    assert min(ticks) >= lowest * scale - (0.1 if not from_zero and unit != "%" else 0)
    assert max(ticks) <= highest * scale + (0.1 if not from_zero and unit != "%" else 0)
    assert min(ticks) <= min(values) * scale
    assert max(ticks) >= max(values) * scale


def test_a_band_is_cut_at_zero():
    """Mean 0.1 with a half width of 0.5 goes down to 0, which lies at the bottom of the plot, and no tick is below."""
    band = Series(label="a", points=[(0, 0.1), (1, 0.2)], color=1, half_width=[0.5, 0.1])
    svg = svg_of(line_chart("t", [band], x_label="x", y_label="y", unit="nats", from_zero=True))
    (polygon,) = [e for e in svg.iter() if e.get("class") == "band c1"]
    lowest = max(float(pair.split(",")[1]) for pair in (polygon.get("points") or "").split())
    assert lowest == HEIGHT - 44
    assert not [e for e in svg.iter() if (e.text or "").startswith("-")]
