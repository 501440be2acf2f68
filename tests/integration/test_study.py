"""A study through the real command: cold starts, training, controls and tests as processes, stopped and gone on."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from arpo.study.config import load_study
from arpo.study.folder import StudyFolder
from arpo.study.outcomes import Outcomes

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
num_persons = 60
num_companies = 24
num_cities = 24
num_regions = 8
num_train = 400
num_valid = 8
[demos]
num_tasks = 300
[sft]
num_epochs = 2

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
def test_a_study_is_stopped_and_goes_on_to_its_report(arpo, tmp_path: Path):
    file, out = tmp_path / "mine.toml", tmp_path / "study"
    file.write_text(STUDY)
    command = ("study", file, "--out", out, "--jobs", "2")
    arpo.start(*command)
    training = out / "runs" / "arpo" / "rate_0.0003" / "0-3"
    wait_until(lambda: (training / "metrics.jsonl").is_file())
    os.kill(arpo.pid, signal.SIGTERM)
    stopped = arpo.wait()
    assert stopped.code == 130
    assert "the same command goes on with the study" in stopped.stderr
    assert not running_below(out)
    cold = (out / "worlds" / "0" / "sft" / "final" / "model.safetensors").stat().st_mtime_ns

    arpo.succeed(*command)
    assert (out / "worlds" / "0" / "sft" / "final" / "model.safetensors").stat().st_mtime_ns == cold
    study, folder = load_study([file]), StudyFolder(out)
    outcomes, run = Outcomes(study, folder), (0, 3)
    for name, arm in study.arms.items():
        where = folder.test(name, run, 2 if arm.kind == "rl" else 0)
        assert json.loads((where / "summary.json").read_text())["num_tasks"] == 8
    rates = outcomes.rates_by_turn("arpo", run)
    assert f"rate = {list(rates)}".replace(" ", "") in (outcomes.training("random", run) / "config.toml").read_text().replace(
        "\n", ""
    ).replace(" ", "").replace(",]", "]")
    assert all(reached is None or reached.step <= 4 for reached in outcomes.budgets("half", run).values())
    assert outcomes.step_seconds("half") is not None

    again = arpo.succeed(*command)
    assert "begins" not in again.stderr


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
    deadline = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
