"""What is known to be wrong before anything runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arpo.cli.main import main
from arpo.config import merge_keys, parse_config
from arpo.errors import ConfigError, RunError
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.configs import StudyConfigs, write_config
from arpo.lab.study.folder import StudyFolder
from arpo.lab.study.job_actions import JobActions
from arpo.lab.study.jobs import Commands
from arpo.tree import write_trees
from arpo.types import Reward
from arpo.world.config import WorldConfig

from .conftest import KEYS
from .made_up import tree


@pytest.fixture
def check(folder: StudyFolder) -> Callable[..., None]:
    """Checks the small study with other keys on top."""

    def with_keys(keys: dict[str, Any], num_threads: int = 1) -> None:
        study = parse_config(StudyConfig, merge_keys(KEYS, keys), "test")
        JobActions(study, folder, Commands(), num_threads).check()

    return with_keys


def test_a_rule_that_takes_no_rates_is_refused_before_its_source_has_run(check: Callable[..., None]):
    check({})
    with pytest.raises(ConfigError, match=r"arms\.random: rollout\.rule\.rate"):
        check({"arms": {"random": {"rl": {"rollout": {"rule": {"type": "arpo"}}}}}})


def test_an_arm_edited_after_it_was_trained_is_refused(study: StudyConfig, folder: StudyFolder, check: Callable[..., None]):
    configs = StudyConfigs(study, folder, num_threads=1)
    trained = configs.training("random", (1, 5), 3e-4, [0.25, 0.5])
    write_config(folder.config("train", trained["out"]), trained)
    check({}, num_threads=2)  # the rates are measured, and threads change no result
    with pytest.raises(
        ConfigError,
        match=r"random/rate_0\.0003/1-5: was made with rollout\.group_size = 'the default', and the study now says 8",
    ):
        check({"arms": {"random": {"rl": {"rollout": {"group_size": 8}}}}})
    with pytest.raises(ConfigError, match=r"was made with updates_per_step = 2, and the study now says 4"):
        check({"rl": {"updates_per_step": 4}})
    check({"arms": {"arpo": {"rl": {"rollout": {"group_size": 8}}}}})  # has not been trained


def test_other_keys_for_a_test_that_was_asked_are_refused(study: StudyConfig, folder: StudyFolder, check: Callable[..., None]):
    asked = StudyConfigs(study, folder, num_threads=1).cold_test(1)
    write_config(folder.config("eval", asked["out"]), asked)
    check({})
    with pytest.raises(ConfigError, match=r"cold_start/1: was made with num_tasks = 2000, and the study now says 500"):
        check({"num_test": 500})


def test_another_world_than_the_one_made_is_refused(folder: StudyFolder, check: Callable[..., None]):
    made = folder.world(1) / "world" / "world.json"
    made.parent.mkdir(parents=True)
    made.write_text(json.dumps({"config": WorldConfig(seed=1, num_test=2000).model_dump(mode="json"), "counts": {}}))
    check({})
    with pytest.raises(ConfigError, match=r"1/world: was made with num_cities = 384, and the study now says 60"):
        check({"world": {"num_cities": 60}})


HOLD = """
import sys
from pathlib import Path
from arpo.tracking.run_directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
MINE = """
runs = [[0, 0]]
num_steps = 1
checkpoint_every = 1
budget_arm = "arpo"
[arms.arpo]
about = "a"
algorithm = "arpo"
"""


def test_in_the_background_it_fails_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, out = tmp_path / "mine.toml", tmp_path / "study"
    file.write_text(MINE + "rl = {rollout = {group_sise = 4}}\n")
    assert main(["study", str(file), "--out", str(out), "--background"]) == 2
    assert "arms.arpo: rollout.group_sise: unknown key" in capsys.readouterr().err
    file.write_text(MINE)
    out.mkdir(exist_ok=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert main(["study", str(file), "--out", str(out), "--background"]) == 2
    finally:
        holder.kill()
        holder.communicate()
    assert f"in use by process {holder.pid}" in capsys.readouterr().err
    assert not (out / "study.log").exists()


def test_rejection_of_all_samples_is_said(folder: StudyFolder, finish: Callable[..., Path]):
    """4 steps of 8 tasks with 16 trajectories: 512 samples, 8 for each of 64 questions."""
    study = parse_config(StudyConfig, merge_keys(KEYS, {"arms": {"sampled": {"about": "s", "kind": "rejection"}}}), "test")
    for rate in study.learning_rates:
        finish("arpo", (0, 0), rate, accuracy=0.5, calls=[1] * 4)
    wrong = tree()
    for leaf in wrong.leaves():
        leaf.reward = Reward(value=0.0, is_correct=False)
    samples = folder.samples("sampled", (0, 0))
    write_trees(samples / "rollouts" / "part_000000.jsonl.zst", [wrong])
    (samples / "summary.json").write_text("{}")
    with pytest.raises(RunError, match=r"arms\.sampled: none of the 512 trajectories sampled from the cold start is right"):
        JobActions(study, folder, Commands(), num_threads=1).train_at_best("sampled", (0, 0))
