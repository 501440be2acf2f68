"""A real run's metrics in every sink, and what the viewer makes of the run."""

import json
import sqlite3
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_sink_holds_what_metrics_jsonl_holds(arpo, domain, write_toml, tmp_path: Path):
    for package in ("tensorboard", "wandb", "trackio"):
        pytest.importorskip(package)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    tracking = {"sinks": ["tensorboard", "wandb", "trackio"], "project": "probe", "wandb_mode": "offline"}
    config = write_toml(tmp_path / "rl.toml", domain.rl(run, num_steps=2, tracking=tracking))
    said = arpo.succeed("train", config).stderr
    assert "failed" not in said
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    for name in ("rollout/reward_mean", "train/loss", "rollout/num_branches"):
        expected = [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows]
        assert [(e.step, e.value) for e in events.Scalars(name)] == expected
    run_id = (run / "wandb" / "run_id").read_text()
    (offline,) = (run / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    assert b"rollout/reward_mean" in offline.read_bytes()
    (database,) = arpo.trackio.glob("probe*.db")
    with sqlite3.connect(database) as connection:
        stored = connection.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(step, json.loads(metrics)["rollout/reward_mean"]) for step, metrics in stored] == [
        (row["step"], row["rollout/reward_mean"]) for row in rows
    ]


def test_a_run_can_be_looked_at(arpo, domain, never_stopped: Path, tmp_path: Path):
    """The times of a summary are a table by phase, which the viewer draws; the phases are parts of the total."""
    for run, phases in ((never_stopped, {"rollout", "update", "validate"}), (domain.path / "cold", {"sft", "validate"})):
        seconds = json.loads((run / "summary.json").read_text())["seconds"]
        assert seconds.keys() == phases | {"total"}
        assert 0.5 * seconds["total"] < sum(seconds[phase] for phase in phases) <= seconds["total"] + 1e-9
        page = tmp_path / f"{run.name}.html"
        arpo.succeed("view", run, "--out", page)
        assert page.stat().st_size > 10_000
