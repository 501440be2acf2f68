import json
import logging
import os
import sqlite3
import struct
import subprocess
import sys

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.tracking import Tracker, TrackingConfig, read_metrics

VALUES = [{"train/loss": 0.5, "rollout/num_branches": 3}, {"train/loss": 0.25, "rollout/num_branches": 4}]


def config(**values: object) -> TrackingConfig:
    return parse_config(TrackingConfig, values, "test")


def test_unknown_name_is_refused_and_nothing_is_written(tmp_path):
    with Tracker(tmp_path, config()) as tracker, pytest.raises(ValueError, match="train/lose"):
        tracker.log(1, {"train/loss": 0.5, "train/lose": 0.5})
    assert read_metrics(tmp_path) == []


def test_unknown_sink_is_a_configuration_error():
    with pytest.raises(ConfigError, match="sinks"):
        config(sinks=["mlflow"])


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "arpo.tracking.wandb", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)  # what Python itself puts there to say: not importable
    with pytest.raises(ConfigError, match=r"pip install 'arpo\[wandb\]'"):
        Tracker(tmp_path, config(sinks=["wandb"]))


def test_no_optional_package_is_imported_unless_chosen():
    program = "import sys, arpo.tracking; print([m for m in ('torch', 'wandb', 'tensorboard', 'trackio') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_failing_sink_is_reported_once_and_training_goes_on(tmp_path, caplog):
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("a file where the event folder should be")
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, config(sinks=["tensorboard"])) as tracker:
        for step, values in enumerate(VALUES, start=1):
            tracker.log(step, values)
    assert [r.message for r in caplog.records if "'tensorboard' failed" in r.message] == [r.message for r in caplog.records]
    assert len(caplog.records) == 1
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_a_sink_that_fails_later_is_left_alone_from_then_on(tmp_path, caplog):
    class Disconnected:
        calls = 0

        def log(self, step, values):
            self.calls += 1
            raise ConnectionError("gone")

        def truncate_after(self, step): ...

        def close(self): ...

    sink = Disconnected()
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, config()) as tracker:
        tracker._optional["wandb"] = sink
        for step, values in enumerate(VALUES, start=1):
            tracker.log(step, values)
    assert sink.calls == 1
    assert len(caplog.records) == 1
    assert len(read_metrics(tmp_path)) == 2


def test_tensorboard_reads_back_a_resumed_run(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Tracker(tmp_path, config(sinks=["tensorboard"])) as tracker:
        for step in range(1, 5):
            tracker.log(step, {"train/loss": step})
    with Tracker(tmp_path, config(sinks=["tensorboard"])) as tracker:
        tracker.truncate_after(2)
        tracker.log(3, {"train/loss": 30})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in events] == [(1, 1.0), (2, 2.0), (3, 30.0)]


OFFLINE = """
import sys
from pathlib import Path
from arpo.tracking import Tracker, TrackingConfig
run, sink = Path(sys.argv[1]), sys.argv[2]
for resumed in (False, True):
    with Tracker(run, TrackingConfig(sinks=(sink,), project="probe"), {"seed": 7}) as tracker:
        if resumed:
            tracker.truncate_after(2)
            tracker.log(3, {"train/loss": 30})
        else:
            for step in range(1, 4):
                tracker.log(step, {"train/loss": step})
"""


def run_offline(run_dir, sink: str, **environment: str) -> str:
    # An own process: wandb and trackio read their settings when imported and leave threads behind.
    return subprocess.run(
        [sys.executable, "-c", OFFLINE, str(run_dir), sink],
        capture_output=True, text=True, check=True, timeout=120, env=os.environ | environment,
    ).stderr  # fmt: skip


def test_wandb_offline_writes_one_run_that_a_resume_continues(tmp_path):
    pytest.importorskip("wandb")
    run_dir = tmp_path / "a"
    assert "failed" not in run_offline(run_dir, "wandb")
    run_id = (run_dir / "wandb" / "run_id").read_text()
    assert len(list((run_dir / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))) >= 1
    assert [row["train/loss"] for row in read_metrics(run_dir)] == [1, 2, 30]


def test_wandb_draws_everything_by_the_step_of_training(tmp_path):
    """Read back from the record: the x axis of every metric is train/global_step, which each row has."""
    pytest.importorskip("wandb")
    run_dir = tmp_path / "a"
    run_offline(run_dir, "wandb")
    rows, axes = [], {}
    for path in sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"))[:1]:
        for record in wandb_records(path):
            if record.history.item:
                rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
            if record.metric.glob_name or record.metric.name:
                axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
    assert axes["*"] == "train/global_step"
    assert [(row["train/global_step"], row["train/loss"]) for row in rows] == [(1, 1), (2, 2), (3, 3)]


def wandb_records(path):
    """The records of a W&B file: blocks of 32 KiB after a header of 7 bytes, in pieces of checksum, length, kind and data."""
    from wandb.proto import wandb_internal_pb2

    data, position, piece = path.read_bytes(), 7, b""
    while position < len(data):
        if 32_768 - position % 32_768 < 7:  # no room for another piece in this block
            position += 32_768 - position % 32_768
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        piece += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            record = wandb_internal_pb2.Record()
            record.ParseFromString(piece)
            yield record
            piece = b""


def test_trackio_stores_every_value_locally(tmp_path):
    pytest.importorskip("trackio")
    assert "failed" not in run_offline(tmp_path / "a", "trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    assert [(name, step, json.loads(metrics)["train/loss"]) for name, step, metrics in rows] == [
        ("a", 1, 1), ("a", 2, 2), ("a", 3, 3), ("a", 3, 30)
    ]  # fmt: skip
