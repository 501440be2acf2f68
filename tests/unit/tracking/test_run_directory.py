import errno
import subprocess
import sys
from pathlib import Path

import pytest

from arpo.config import Config, dump_config, parse_config
from arpo.errors import RunError
from arpo.evaluation.config import EvalRun, RolloutRun
from arpo.tracking.run_directory import RunDirectory, how_to_go_on, name_full_disk, resume_command
from arpo.training.config import RlRun, SftRun

HOLD = """
import sys
from pathlib import Path
from arpo.tracking.run_directory import RunDirectory
run = RunDirectory.open(Path(sys.argv[1]), "train")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    with RunDirectory.create(tmp_path / "a" / "run") as run:
        run.write_text("config.toml", "tasks_per_step = 1\n")
    return tmp_path / "a" / "run"


def test_names_are_those_of_the_design(run_path: Path):
    with RunDirectory.open(run_path, "train") as run:
        assert run.rollouts_path(12) == run_path / "rollouts/step_000012.jsonl.zst"
        assert run.config_path.read_text() == "tasks_per_step = 1\n"
        assert run.write_json("summary.json", {"a": 1}) == run_path / "summary.json"


def test_a_new_run_refuses_a_folder_that_holds_one(run_path: Path):
    with pytest.raises(RunError, match=r"holds a run already.*`arpo train --resume .*run`"):
        RunDirectory.create(run_path)
    assert (run_path / "config.toml").read_text() == "tasks_per_step = 1\n"


def test_a_new_run_refuses_strangers_files(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"not empty.*thesis\.tex"):
        RunDirectory.create(tmp_path)


def test_a_refused_folder_is_not_left_locked(tmp_path: Path):
    stranger = tmp_path / "thesis.tex"
    stranger.write_text("x")
    with pytest.raises(RunError):
        RunDirectory.create(tmp_path)
    stranger.unlink()
    RunDirectory.create(tmp_path).close()


def test_only_a_run_can_be_opened(tmp_path: Path):
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.open(tmp_path, "train")
    assert not list(tmp_path.iterdir())


def test_a_second_process_is_told_who_holds_it_and_a_killed_holder_lets_go(run_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
            RunDirectory.open(run_path, "train")
    finally:
        holder.kill()
        holder.communicate()
    RunDirectory.open(run_path, "train").close()


@pytest.mark.parametrize(("command", "cls"), [("train", RlRun), ("sft", SftRun), ("rollout", RolloutRun), ("eval", EvalRun)])
def test_a_run_is_known_by_a_key_that_its_configuration_alone_always_has(tmp_path: Path, command: str, cls: type[Config]):
    """Each command opens its own runs and names the right command for the others."""
    sections = {"data": "d", "tasks": "t", "model": {"path": "m"}, "agent": {"protocol": {"tools": []}}}
    keys = {key: value for key, value in sections.items() if key in cls.model_fields} | {"out": str(tmp_path)}
    (tmp_path / "config.toml").write_text(dump_config(parse_config(cls, keys, "test")))
    assert resume_command(tmp_path) == f"arpo {command} --resume {tmp_path}"
    for other in ("train", "sft", "rollout", "eval"):
        if other == command:
            RunDirectory.open(tmp_path, other).close()
        else:
            with pytest.raises(RunError, match=f"not a run of `arpo {other}`.*`arpo {command} --resume {tmp_path}`"):
                RunDirectory.open(tmp_path, other)
    with pytest.raises(RunError, match=f"holds a run already.*`arpo {command} --resume {tmp_path}`"):
        RunDirectory.create(tmp_path)


@pytest.mark.parametrize("text", ["seed = 1", "no TOML", ""])
def test_a_run_that_cannot_go_on_names_no_command(tmp_path: Path, text: str):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(RunError, match="not a run of `arpo sft`, by its config"):
        RunDirectory.open(tmp_path, "sft")
    with pytest.raises(RunError, match=r"holds a run already; name another folder or delete this one$"):
        RunDirectory.create(tmp_path)
    assert how_to_go_on(tmp_path) == "run the command again"


@pytest.mark.parametrize(("number", "raised"), [(errno.ENOSPC, RunError), (errno.EDQUOT, RunError), (errno.EIO, OSError)])
def test_a_full_disk_says_how_to_go_on(run_path: Path, number: int, raised: type[Exception]):
    with pytest.raises(raised) as caught, name_full_disk(run_path):
        raise OSError(number, "x")
    assert (f"go on with `arpo train --resume {run_path}`" in str(caught.value)) == (raised is RunError)
