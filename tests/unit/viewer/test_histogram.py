import re

import pytest

from arpo.viewer.histogram import Layer, histogram

LABELS = {"x_label": "x", "y_label": "n"}


def counts(chart) -> list[tuple[str, ...]]:
    """Bins that are not empty."""
    return [tuple(row) for row in chart.table if any(cell != "0" for cell in row[1:])]


def test_a_bin_holds_its_upper_edge():
    """24 bins over -1 to 1 have width 0.1: zero counts with what is not positive, 0.05 with what is."""
    values = [-1.0, 0.0, -0.05, 0.05, 0.1, 1.0]
    chart = histogram("t", [Layer(label="a", values=values, color=1)], **LABELS)
    assert counts(chart) == [("-1.1 to -1", "1"), ("-0.1 to 0", "2"), ("0 to 0.1", "2"), ("0.9 to 1", "1")]


def test_bars_are_stacked_and_as_high_as_their_counts():
    layers = [
        Layer(label="a", values=[0.1, 0.1, 0.9], color=4),
        Layer(label="b", values=[0.1, 0.1], color=2),
        Layer(label="c", values=[], color=3),
    ]
    chart = histogram("t", layers, **LABELS)
    assert chart is not None
    assert chart.legend == [("a", 4, "bar"), ("b", 2, "bar")]
    bars = [
        (color, float(y), float(height))
        for color, y, height in re.findall(
            r'<rect class="(c\d)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', chart.svg
        )
    ]
    # the axis ends at 4 counts, 242 drawing units from y = 256 up to y = 14: 60.5 a count
    assert bars == [("c4", 135.0, 121.0), ("c2", 14.0, 121.0), ("c4", pytest.approx(195.5), 60.5)]


@pytest.mark.parametrize("value", [0.0, 1e-12, -3.0, 1e9])
def test_a_single_value_is_in_one_bin(value):
    chart = histogram("t", [Layer(label="a", values=[value, value], color=1)], **LABELS)
    assert [row[1] for row in counts(chart)] == ["2"]


def test_every_value_is_in_a_bin_of_its_range():
    values = [(-1) ** i * i**1.7 / 300 for i in range(200)]
    chart = histogram("t", [Layer(label="a", values=values, color=1)], **LABELS)
    assert chart is not None
    assert sum(int(row[1]) for row in chart.table) == 200
    num_positive = sum(int(row[1]) for row in chart.table if float(row[0].split(" to ")[0]) >= 0)
    assert num_positive == sum(value > 0 for value in values)


def test_no_value_is_no_chart():
    assert histogram("t", [Layer(label="a", values=[], color=1)], **LABELS) is None
