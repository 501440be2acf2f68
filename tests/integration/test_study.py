"""A study through the real command: cold starts, training, controls and tests as processes, stopped and gone on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arpo.config import load_config
from arpo.lab.study.config import load_study
from arpo.lab.study.finished_runs import FinishedRuns
from arpo.lab.study.folder import StudyFolder
from arpo.rollout.config import RandomRuleConfig
from arpo.training.config import RlRun

STUDY = """
runs = [[0, 3]]
num_steps = 2
checkpoint_every = 1
learning_rates = [3e-4, 6e-4]
budget_arm = "arpo"
num_test = 8
num_samples = 2
timing_steps = 2

[world]
num_persons = 500
num_companies = 150
num_cities = 160
num_regions = 12
num_train = 1300
num_valid = 8
[demos]
num_tasks = 1200
[sft]
num_epochs = 4

[rl]
tasks_per_step = 2
updates_per_step = 2
[rl.optimizer]
schedule = "constant"
final_fraction = 0.0

[arms.arpo]
about = "the paper's rule"
algorithm = "arpo"
[arms.random]
about = "at arpo's rates"
algorithm = "arpo"
rates_of = "arpo"
rl = {rollout = {rule = {type = "random"}}}
[arms.half]
about = "half the group, twice the steps"
algorithm = "grpo"
rl = {num_steps = 4, rollout = {group_size = 8}}
[arms.imitation]
about = "more of the cold start"
kind = "sft"
[arms.rejection]
about = "what the cold start gets right"
kind = "rejection"
"""


@pytest.mark.slow
def test_a_study_is_stopped_and_goes_on_to_its_report(tmp_path: Path):
    file, out = tmp_path / "mine.toml", tmp_path / "study"
    file.write_text(STUDY)
    study, folder, run = load_study([file]), StudyFolder(out), (0, 3)
    process = start(file, out)
    try:
        wait_until(lambda: (folder.training("arpo", run, 3e-4) / "metrics.jsonl").is_file() or process.poll() is not None)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 130
    assert "the same command goes on with the study" in (out.parent / "output").read_text()
    assert not running_below(out)
    cold = folder.cold_start(0) / "model.safetensors"
    made = cold.stat().st_mtime_ns

    assert start(file, out).wait(600) == 0
    assert cold.stat().st_mtime_ns == made
    for name, arm in study.arms.items():
        where = folder.test(name, run, 2 if arm.kind == "rl" else 0)
        assert json.loads((where / "summary.json").read_text())["num_tasks"] == 8
    finished = FinishedRuns(study, folder)
    random = load_config(RlRun, finished.training("random", run) / "config.toml")
    assert random.rollout.rule == RandomRuleConfig(rate=tuple(finished.rates_by_turn("arpo", run)))
    assert finished.step_seconds("half") is not None

    (out.parent / "output").unlink()
    assert start(file, out).wait(60) == 0
    assert "begins" not in (out.parent / "output").read_text()


def start(file: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command in a process of its own, whose output goes to a file beside the study."""
    command = [sys.executable, "-m", "arpo.cli.main", "study", file, "--out", out, "--jobs", "2"]
    with (out.parent / "output").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def running_below(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def wait_until(holds) -> None:
    deadline = time.monotonic() + 500
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
