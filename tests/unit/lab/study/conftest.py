"""A small study of three arms, and runs of it made up by what they would have written."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.config import parse_config
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.folder import Run, StudyFolder

KEYS: dict[str, Any] = {
    "runs": [[0, 0], [1, 5]],
    "num_steps": 4,
    "checkpoint_every": 2,
    "learning_rates": [6e-4, 3e-4],
    "budget_arm": "arpo",
    "timing_steps": 3,
    "rl": {"updates_per_step": 2},
    "arms": {
        "arpo": {"about": "a", "algorithm": "arpo"},
        "more": {"about": "m", "kind": "sft", "num_runs": 1},
        "random": {
            "about": "r", "algorithm": "arpo", "rates_of": "arpo",
            "rl": {"num_steps": 6, "rollout": {"rule": {"type": "random"}}},
        },
    },
}  # fmt: skip


@pytest.fixture
def study() -> StudyConfig:
    return parse_config(StudyConfig, KEYS, "test")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def finish(folder: StudyFolder):
    """Writes what a finished training leaves: its metrics and a summary."""

    def write(arm: str, run: Run, rate: float | None, *, accuracy: float, calls: list[int], step_s: float = 1.0) -> Path:
        where = folder.training(arm, run, rate)
        where.mkdir(parents=True)
        rows = [
            {
                "step": step, "rollout/tool_calls_issued": n, "rollout/tokens_sampled": 10 * n, "time/step_s": step_s,
                "time/update_s": step_s / 4,
            }
            for step, n in enumerate(calls, start=1)
        ]  # fmt: skip
        for row in rows:
            if row["step"] in (4, len(rows)):
                row["valid/accuracy"] = accuracy
        (where / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (where / "summary.json").write_text("{}")
        return where

    return write
