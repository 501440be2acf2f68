"""A supervised run that is killed, interrupted or made longer equals one that was never stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

CHANGES: dict[str, Any] = {
    "num_epochs": 3, "batch_tokens": 192, "batching": {"max_tokens": 96}, "checkpoint": {"every": 4, "keep": 1},
    "validation": {"fraction": 0.2, "every": 3}, "optimizer": {"learning_rate": 1e-2, "schedule": "cosine", "warmup_steps": 2},
}  # fmt: skip
"""Several passes an update, a validation that is due at other updates than a checkpoint, and a schedule."""
PLACES = {
    "before the first checkpoint": [
        ("arpo.training.sft:load_trained_policy", 1, "before"),
        ("arpo.training.sft:accumulate_gradients", 2, "after"),
        ("torch:save", 1, "before"),  # the weights are written, the optimizer is not
    ],
    "around updates": [
        ("arpo.training.sft:optimizer_step", 6, "after"),
        ("arpo.training.sft:_measure", 2, "before"),
        ("arpo.tracking.sinks:Tracker.log", 2, "after"),
        ("arpo.training.checkpoint:Checkpoints.prune", 2, "before"),
        ("arpo.training.sft:SftTrainer._summarize", 1, "before"),
    ],
    "between a checkpoint and its links": [
        ("arpo.training.checkpoint:Checkpoints.link", 1, "before"),
        ("arpo.training.checkpoint:Checkpoints.link", 3, "before"),
    ],
}
"""Where each process of a run is killed; the next one resumes, the last one is left alone."""


@pytest.fixture(scope="module")
def unbroken(arpo, domain, write_toml, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished supervised run, for comparison."""
    folder = tmp_path_factory.mktemp("unbroken")
    arpo.succeed("sft", write_toml(folder / "sft.toml", domain.sft(folder / "run", **CHANGES)))
    return folder / "run"


def rows_of(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]


def read_optimizer(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's optimizer by name."""
    with TemporaryDirectory() as folder:
        dcp_to_torch_save(checkpoint / "trainer" / "optimizer", Path(folder, "whole.pt"))
        return torch.load(Path(folder, "whole.pt"), weights_only=True)


def assert_same(run: Path, reference: Path) -> None:
    """Everything a run leaves behind but wall times is the same, bit by bit."""
    assert rows_of(run) == rows_of(reference)
    for link in ("best", "final"):
        assert os.readlink(run / link) == os.readlink(reference / link)
    folders = sorted(p.name for p in (reference / "checkpoints").iterdir())
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == folders
    for name in folders:
        mine, other = run / "checkpoints" / name, reference / "checkpoints" / name
        files = sorted(p.relative_to(other) for p in other.rglob("*"))
        assert sorted(p.relative_to(mine) for p in mine.rglob("*")) == files
        for file in [file for file in files if (other / file).is_file() and file.parts[0] != "trainer"]:
            assert (mine / file).read_bytes() == (other / file).read_bytes(), file
        states = [json.loads((folder / "trainer" / "trainer_state.json").read_text()) for folder in (mine, other)]
        assert all(state.pop("seconds") > 0 for state in states)
        assert states[0] == states[1]
        states = [read_optimizer(folder) for folder in (mine, other)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    summaries = [json.loads((r / "summary.json").read_text()) for r in (run, reference)]
    assert all(summary.pop("seconds") for summary in summaries)
    assert summaries[0] == summaries[1]


def test_the_run_is_worth_resuming(unbroken: Path):
    rows = rows_of(unbroken)
    assert len(rows) == 15
    assert [row["step"] for row in rows if "valid/loss" in row] == [3, 6, 9, 12, 15]
    losses = {row["step"]: row["valid/loss"] for row in rows if "valid/loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert os.readlink(unbroken / "best") == f"checkpoints/step_{best:06d}/model"
    assert os.readlink(unbroken / "final") == f"checkpoints/step_{len(rows):06d}/model"
    names = {p.name for p in (unbroken / "final").iterdir()}
    assert "model.safetensors" in names
    assert not names & {"trainer", "trainer_state.json", "optimizer"}, "a model and nothing else"


@pytest.mark.parametrize("phase", [p if p == "around updates" else pytest.param(p, marks=pytest.mark.slow) for p in PLACES])
def test_killed_and_resumed_is_never_stopped(arpo, domain, write_toml, unbroken: Path, tmp_path: Path, phase: str):
    run = tmp_path / "run"
    start = ("sft", write_toml(tmp_path / "sft.toml", domain.sft(run, **CHANGES)))
    for place in PLACES[phase]:
        killed = arpo(*(("sft", "--resume", run) if (run / "config.toml").is_file() else start), die_at=place)
        assert killed.code == -signal.SIGKILL, (place, killed.stderr)
    arpo.succeed("sft", "--resume", run)
    assert_same(run, unbroken)


@pytest.mark.slow
def test_killed_again_and_again(arpo, domain, write_toml, wait_until, unbroken: Path, tmp_path: Path):
    """From outside, at moments nobody chose, until it is through; the newest checkpoint is readable each time."""
    run, random, kills = tmp_path / "run", Random(0), 0
    command: tuple[object, ...] = ("sft", write_toml(tmp_path / "sft.toml", domain.sft(run, **CHANGES)))
    while True:
        pid = arpo.start(*command)
        if kills < 5:
            wait_until((run / "metrics.jsonl").is_file)
            subprocess.Popen(["sh", "-c", f"sleep {random.uniform(0.0, 0.15)}; kill -9 {pid} 2>/dev/null"])
        code = arpo.wait().code
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        command = ("sft", "--resume", run)
    assert kills > 0
    assert_same(run, unbroken)


@pytest.mark.slow
def test_a_real_interpreter_is_killed(domain, write_toml, wait_until, unbroken: Path, tmp_path: Path):
    run = tmp_path / "run"
    arguments = [sys.executable, "-m", "arpo.cli.main", "sft"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*arguments, write_toml(tmp_path / "sft.toml", domain.sft(run, **CHANGES))], env=environment)
    wait_until((run / "best").is_symlink)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    subprocess.run([*arguments, "--resume", run], env=environment, check=True, timeout=120)
    assert_same(run, unbroken)


def test_ctrl_c_loses_nothing_and_says_how_to_go_on(arpo, domain, write_toml, wait_until, unbroken: Path, tmp_path: Path):
    """The checkpoint is that of the last logged update, though none was due; the run may be moved before it goes on."""
    run = tmp_path / "run"
    changes = CHANGES | {"num_epochs": 200, "checkpoint": {"every": 100_000}, "validation": {"fraction": 0.2, "every": 90_000}}
    changes |= {"optimizer": {"learning_rate": 1e-2, "schedule": "constant"}}  # another length is another schedule
    pid = arpo.start("sft", write_toml(tmp_path / "sft.toml", domain.sft(run, **changes)))
    wait_until(lambda: (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").stat().st_size > 0)
    os.kill(pid, signal.SIGINT)
    interrupted = arpo.wait()
    assert interrupted.code == 130, interrupted.stderr
    assert "a checkpoint is written" in interrupted.stderr
    assert f"arpo sft --resume {run}" in interrupted.stderr.replace("\n", "")
    assert "Traceback" not in interrupted.stderr
    done = rows_of(run)[-1]["step"]
    assert [p.name for p in (run / "checkpoints").iterdir()] == [f"step_{done:06d}"]
    assert not (run / "final").is_symlink()
    moved = run.rename(tmp_path / "moved")
    resumed = arpo.succeed("sft", "--resume", moved, f"--num_epochs={done // 5 + 2}")
    assert f"resuming after update {done} of" in resumed.stderr
    assert [row["step"] for row in rows_of(moved)] == list(range(1, len(rows_of(moved)) + 1))


@pytest.mark.slow
def test_interrupted_and_resumed_is_never_stopped(arpo, domain, write_toml, wait_until, unbroken: Path, tmp_path: Path):
    run = tmp_path / "run"
    pid = arpo.start("sft", write_toml(tmp_path / "sft.toml", domain.sft(run, **CHANGES)))
    wait_until(lambda: (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").stat().st_size > 0)
    os.kill(pid, signal.SIGINT)
    assert arpo.wait().code in (0, 130)
    arpo.succeed("sft", "--resume", run)
    assert_same(run, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("model", [{"lora": {"rank": 4, "alpha": 8}}, {"dtype": "bfloat16"}], ids=["adapter", "masters"])
def test_adapters_and_masters_go_on(arpo, domain, write_toml, tmp_path: Path, model: dict[str, Any]):
    if "lora" in model:
        pytest.importorskip("peft")
    changes = CHANGES | {"model": {"path": str(domain.path / "policy")} | model}
    configs = [write_toml(tmp_path / f"{name}.toml", domain.sft(tmp_path / name, **changes)) for name in ("run", "reference")]
    arpo.succeed("sft", configs[1])
    assert arpo("sft", configs[0], die_at=("arpo.training.sft:optimizer_step", 6, "after")).code == -signal.SIGKILL
    arpo.succeed("sft", "--resume", tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "reference")
    final = (tmp_path / "run" / "final").resolve()
    assert (final.parent / "adapter" / "adapter_config.json").is_file() == ("lora" in model)
    assert not (final / "adapter").exists()


def test_a_finished_run_stays_as_it_is_and_can_be_made_longer(arpo, domain, write_toml, unbroken: Path, tmp_path: Path):
    """With a constant rate the first epochs of a longer run are a shorter run."""
    changes = CHANGES | {"optimizer": {"learning_rate": 1e-3, "schedule": "constant"}, "validation": {"fraction": 0.2}}
    whole = tmp_path / "whole"
    arpo.succeed("sft", write_toml(tmp_path / "whole.toml", domain.sft(whole, **changes)))
    run = tmp_path / "run"
    arpo.succeed("sft", write_toml(tmp_path / "run.toml", domain.sft(run, **changes | {"num_epochs": 1})))
    before = {p: p.stat().st_mtime_ns for p in (run / "checkpoints").rglob("*")}
    finished = arpo.succeed("sft", "--resume", run)
    assert "nothing is left to do" in finished.stderr
    assert {p: p.stat().st_mtime_ns for p in (run / "checkpoints").rglob("*")} == before
    arpo.succeed("sft", "--resume", run, "--num_epochs=3")
    assert "num_epochs = 3" in (run / "config.toml").read_text()
    assert (run / "final" / "model.safetensors").read_bytes() == (whole / "final" / "model.safetensors").read_bytes()


def refusal(result: Any) -> str:
    """The one line of a command that failed for the user's fault."""
    assert result.code == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.rstrip().endswith(lines[0])
    return lines[0]


def test_a_run_of_another_command_names_its_own(arpo, domain, write_toml, never_stopped: Path, unbroken: Path, tmp_path: Path):
    assert f"go on with `arpo train --resume {never_stopped}`" in refusal(arpo("sft", "--resume", never_stopped))
    assert f"go on with `arpo sft --resume {unbroken}`" in refusal(arpo("train", "--resume", unbroken))
    assert f"go on with `arpo sft --resume {unbroken}`" in refusal(arpo("eval", "--resume", unbroken))
    again = refusal(arpo("sft", write_toml(tmp_path / "sft.toml", domain.sft(unbroken))))
    assert "holds a run already; name another folder or delete this one; a stopped run goes on with `arpo sft" in again
    assert "not a run directory" in refusal(arpo("sft", "--resume", tmp_path))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--optimizer.learning_rate=1e-3", "'--optimizer.learning_rate=1e-3' has no place here"),
        ("--data=other.jsonl", "a resumed run keeps its own configuration, but for checkpoint, tracking"),
        ("--num_epochs=0", "num_epochs = 0"),
    ],
)
def test_changed_keys_on_resume(arpo, unbroken: Path, override: str, words: str):
    assert words in refusal(arpo("sft", "--resume", unbroken, override))


def test_other_conversations_on_resume(arpo, domain, write_toml, tmp_path: Path):
    data = tmp_path / "conversations.jsonl"
    lines = (domain.path / "conversations.jsonl").read_text().splitlines(keepends=True)
    data.write_text("".join(lines))
    run = tmp_path / "run"
    command = ("sft", write_toml(tmp_path / "sft.toml", domain.sft(run, **CHANGES, data=str(data))))
    assert arpo(*command, die_at=("arpo.training.sft:optimizer_step", 6, "after")).code == -signal.SIGKILL
    data.write_text("".join(lines[1:]))
    message = refusal(arpo("sft", "--resume", run))
    assert f"{run}/checkpoints/step_" in message
    assert "was trained on other conversations" in message
    data.write_text("".join(lines))
    arpo.succeed("sft", "--resume", run)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--validation.every=3"], "validation: nothing is held out; set validation.fraction"),
        (["--validation.fraction=0.1", "--validation.data=x.jsonl"], "fraction = 0.1 with data = 'x.jsonl'"),
        (["--validation.fraction=1"], "validation.fraction = 1"),
        (
            ["--validation.fraction=0.999"],
            "validation.fraction = 0.999 of 18 conversations with 18 different prompts leaves none",
        ),
        (["--validation.data=none.jsonl"], "none.jsonl: no such file"),
        (["--validation.data=empty.jsonl"], "empty.jsonl"),
        (["--validation.data=DATA"], "the prompt of each of its 18 conversations is in `data` too"),
        (["--batch_tokens=64"], "batch_tokens = 64 is below the longest conversation"),
        (["--batching.max_tokens=30"], "batching.max_tokens = 30 is below the longest conversation"),
    ],
)
def test_what_cannot_be_held_out_or_fits_no_batch(arpo, domain, write_toml, tmp_path: Path, overrides: list[str], words: str):
    (tmp_path / "empty.jsonl").touch()
    config = write_toml(tmp_path / "sft.toml", domain.sft(tmp_path / "run"))
    given = [override.replace("DATA", str(domain.path / "conversations.jsonl")) for override in overrides]
    assert words in refusal(arpo("sft", config, *given, cwd=tmp_path))
    assert not (tmp_path / "run" / "config.toml").exists(), "the command can be run again once this is mended"
