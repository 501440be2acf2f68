import json

import pytest

from arpo.errors import DataError
from arpo.tracking import METRICS_FILE, read_metrics, series
from arpo.tracking.jsonl import JsonlSink


def test_a_line_is_readable_as_soon_as_it_is_logged(tmp_path):
    sink = JsonlSink(tmp_path)
    sink.log(1, {"train/loss": 0.5})
    assert read_metrics(tmp_path) == [{"step": 1, "train/loss": 0.5}]
    sink.close()


def test_truncated_and_resumed_file_equals_an_uninterrupted_one(tmp_path):
    whole = JsonlSink(tmp_path / "whole")
    for step in range(1, 6):
        whole.log(step, {"train/loss": 1 / step, "rollout/num_branches": step})
    whole.close()

    crashed = JsonlSink(tmp_path / "resumed")
    for step in range(1, 5):
        crashed.log(step, {"train/loss": 1 / step, "rollout/num_branches": step})
    crashed.close()
    with (tmp_path / "resumed" / METRICS_FILE).open("a") as file:
        file.write('{"step": 5, "train/lo')  # the process died here; the last checkpoint is that of step 2

    resumed = JsonlSink(tmp_path / "resumed")
    resumed.truncate_after(2)
    for step in range(3, 6):
        resumed.log(step, {"train/loss": 1 / step, "rollout/num_branches": step})
    resumed.close()
    assert (tmp_path / "resumed" / METRICS_FILE).read_bytes() == (tmp_path / "whole" / METRICS_FILE).read_bytes()


@pytest.mark.parametrize(
    "tail", ['{"step": 2, "train/l', '{"step": 2', "{", '{"step": 2, "train/loss": 0.25}', b"\xc3".decode("latin-1")]
)
def test_an_unfinished_last_line_is_left_out(tmp_path, tail):
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "train/loss": 0.5}\n' + tail)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


@pytest.mark.parametrize("line", ["oops", "3", "[]", '{"train/loss": 1}', '{"step": "one"}'])
def test_a_damaged_line_before_the_last_is_named(tmp_path, line):
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(DataError, match="line 2"):
        read_metrics(tmp_path)


def test_no_file_is_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_not_finite_is_null_so_that_every_reader_takes_the_line(tmp_path):
    sink = JsonlSink(tmp_path)
    sink.log(1, {"train/loss": float("nan"), "train/grad_norm": float("inf"), "train/entropy": 0.1})
    sink.close()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = (tmp_path / METRICS_FILE).read_text()
    assert json.loads(line, parse_constant=refuse) == {
        "step": 1, "train/loss": None, "train/grad_norm": None, "train/entropy": 0.1
    }  # fmt: skip


def test_series_skips_rows_without_a_value():
    rows = [{"step": 1, "a": 0.5}, {"step": 2}, {"step": 3, "a": None}, {"step": 4, "a": 0}]
    assert series(rows, "a") == [(1, 0.5), (4, 0)]
