import subprocess
import sys
from pathlib import Path

import pytest

from arpo.errors import RunError
from arpo.tracking.run_directory import RunDirectory

HOLD = """
import sys
from pathlib import Path
from arpo.tracking.run_directory import RunDirectory
run = RunDirectory.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    with RunDirectory.create(tmp_path / "a" / "run") as run:
        run.write_text("config.toml", "seed = 1\n")
    return tmp_path / "a" / "run"


def test_names_are_those_of_the_design(run_path: Path):
    with RunDirectory.open(run_path) as run:
        assert run.rollouts_path(12) == run_path / "rollouts/step_000012.jsonl.zst"
        assert run.config_path.read_text() == "seed = 1\n"
        assert run.write_json("summary.json", {"a": 1}) == run_path / "summary.json"


def test_a_new_run_refuses_a_folder_that_holds_one(run_path: Path):
    with pytest.raises(RunError, match=r"holds a run already.*--resume"):
        RunDirectory.create(run_path)
    assert (run_path / "config.toml").read_text() == "seed = 1\n"


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
        RunDirectory.open(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_process_is_told_who_holds_it_and_a_killed_holder_lets_go(run_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
            RunDirectory.open(run_path)
    finally:
        holder.kill()
        holder.communicate()
    RunDirectory.open(run_path).close()
