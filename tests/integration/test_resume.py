"""A killed run that is resumed is bit-identical to one that was never stopped."""

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

from arpo.tree import read_trees, tree_to_dict

PLACES = {
    "before the first checkpoint": [
        ("arpo.training.rl:check_agreement", 1, "before"),
        ("arpo.training.learner:Learner.learn", 1, "before"),
        ("arpo.rollout.path:Path._observe", 5, "before"),
        ("torch:save", 1, "before"),  # the checkpoint's weights are written, its optimizer is not
    ],
    "around an update": [
        ("arpo.training.update:optimizer_step", 3, "before"),
        ("arpo.training.update:optimizer_step", 1, "after"),
        ("arpo.tracking.sinks:Tracker.log", 2, "after"),  # step 4 is in the metrics, its checkpoint is not written
    ],
    "while validating and tidying up": [
        ("arpo.training.validation:mean_scores", 1, "before"),
        ("arpo.training.checkpoint:Checkpoints.prune", 2, "before"),
        ("arpo.training.rl:summarize_run", 1, "before"),
    ],
    "between a checkpoint and its links": [
        ("arpo.training.rl:RLTrainer._point_links", 1, "before"),
        ("arpo.training.rl:RLTrainer._point_links", 2, "before"),  # the first links again what was left at step 2
    ],
}
"""Where each process of a run is killed; the next one resumes, the last one is left alone."""
QUICK = ("around an update",)
"""In the suite; `make test-slow` kills at every place."""


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the machine: times, and the memory of the process."""
    return {k: v for k, v in values.items() if not k.endswith("_s") and k != "seconds" and not k.startswith("memory/")}


def trees_of(path: Path) -> list[dict[str, Any]]:
    trees = [tree_to_dict(tree) for tree in read_trees(path)]
    for tree in trees:
        del tree["seconds"]
    for node in [node for tree in trees for node in tree["nodes"]]:
        for result in node.get("results", ()):
            del result["seconds"]
    return trees


def read_optimizer(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's optimizer by name."""
    with TemporaryDirectory() as folder:
        dcp_to_torch_save(checkpoint / "trainer" / "optimizer", Path(folder, "whole.pt"))
        return torch.load(Path(folder, "whole.pt"), weights_only=True)


def assert_same(run: Path, reference: Path) -> None:
    """Everything a run leaves behind but wall times is the same, bit by bit."""
    rows, expected = ([json.loads(line) for line in (r / "metrics.jsonl").read_text().splitlines()] for r in (run, reference))
    assert [without_times(row) for row in rows] == [without_times(row) for row in expected]
    for link in ("best", "final"):
        assert os.readlink(run / link) == os.readlink(reference / link)
    checkpoints = sorted(p.name for p in (reference / "checkpoints").iterdir())
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == checkpoints
    for name in checkpoints:
        mine, other = run / "checkpoints" / name, reference / "checkpoints" / name
        files = sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
        assert sorted(p.relative_to(mine) for p in mine.rglob("*") if p.is_file()) == files
        for file in [file for file in files if file.parent.name != "optimizer"]:
            assert (mine / file).read_bytes() == (other / file).read_bytes(), file
        states = [read_optimizer(folder) for folder in (mine, other)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    for file in sorted((reference / "rollouts").iterdir()):
        assert trees_of(run / "rollouts" / file.name) == trees_of(file), file.name
    summaries = [without_times(json.loads((r / "summary.json").read_text())) for r in (run, reference)]
    assert summaries[0] == summaries[1]


def test_the_run_is_worth_resuming(never_stopped: Path):
    rows = [json.loads(line) for line in (never_stopped / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert all(row["train/grad_norm"] > 0 for row in rows), "each step trains"
    for name in ("rollout/num_branches", "rollout/num_topups", "rollout/tool_calls_executed"):
        assert sum(row[name] for row in rows) > 0, name
    assert [row["step"] for row in rows if "valid/accuracy" in row] == [2, 4]


@pytest.mark.parametrize("phase", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in PLACES])
def test_killed_and_resumed_is_never_stopped(arpo, domain, write_toml, never_stopped: Path, tmp_path: Path, phase: str):
    run = tmp_path / "run"
    command: tuple[object, ...] = ("train", write_toml(tmp_path / "rl.toml", domain.rl(run)))
    for place in PLACES[phase]:
        killed = arpo(*command, die_at=place)
        assert killed.code == -signal.SIGKILL, (place, killed.stderr)
        command = ("train", "--resume", run)
    arpo.succeed(*command)
    assert_same(run, never_stopped)


def test_a_bfloat16_run_goes_on_from_its_masters(arpo, domain, write_toml, tmp_path: Path):
    """At a rate whose steps the bfloat16 weights alone would lose; and it goes on in bfloat16 only."""
    changes: dict[str, Any] = {
        "model": {"path": str(domain.path / "cold" / "final"), "dtype": "bfloat16"}, "num_steps": 3,
        "optimizer": {"learning_rate": 1e-5}, "checkpoint": {"every": 1, "keep": 3},
    }  # fmt: skip
    configs = [write_toml(tmp_path / f"{name}.toml", domain.rl(tmp_path / name, **changes)) for name in ("run", "reference")]
    arpo.succeed("train", configs[1])
    checkpoints = sorted((tmp_path / "reference" / "checkpoints").iterdir())
    states = [read_optimizer(folder) for folder in checkpoints]
    masters = [[value for name, value in state.items() if name.startswith("weights.")] for state in states]
    assert len(masters) == 3
    assert all(master.dtype == torch.float32 for master in masters[0])
    moved = [not torch.equal(before, after) for before, after in zip(masters[1], masters[2], strict=True)]
    assert all(moved), "every tensor moves in a step"
    killed = arpo("train", configs[0], die_at=("arpo.training.update:optimizer_step", 3, "before"))
    assert killed.code == -signal.SIGKILL, killed.stderr
    resumed = tmp_path / "run" / "config.toml"
    text = resumed.read_text()
    resumed.write_text(text.replace('dtype = "bfloat16"', 'dtype = "float32"'))
    refused = arpo("train", "--resume", tmp_path / "run")
    assert refused.code == 2
    assert "was trained in bfloat16" in refused.stderr.replace("\n", " ")
    resumed.write_text(text)
    arpo.succeed("train", "--resume", tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "reference")


@pytest.mark.slow
def test_killed_again_and_again(arpo, domain, write_toml, wait_until, never_stopped: Path, tmp_path: Path):
    """From outside, at moments nobody chose, until it is through."""
    run, random, kills = tmp_path / "run", Random(0), 0
    command: tuple[object, ...] = ("train", write_toml(tmp_path / "rl.toml", domain.rl(run)))
    while True:
        pid = arpo.start(*command)
        if kills < 4:
            wait_until((run / "metrics.jsonl").is_file)
            signal_in(pid, random.uniform(0.0, 0.2))
        code = arpo.wait().code
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        command = ("train", "--resume", run)
    assert kills > 0
    assert_same(run, never_stopped)


EVERYTHING: dict[str, Any] = {
    "algorithm": "dapo", "num_steps": 4, "tasks_per_step": 3, "updates_per_step": 2, "epochs_per_step": 2,
    "dynamic_sampling": {"max_rounds": 2}, "loss": {"kl": {"coefficient": 0.01}, "entropy_coefficient": 0.001},
    "optimizer": {"learning_rate": 5e-3, "warmup_steps": 3, "schedule": "cosine"}, "checkpoint": {"every": 1, "keep": 2},
}  # fmt: skip
"""Several epochs and mini-batches, a reference, further rounds of tasks and a schedule: all that goes on in a step."""


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [False, True])
def test_with_everything_on(arpo, domain, write_toml, tmp_path: Path, adapter: bool):
    """Killed in a further round of a step, between two updates of a step, and before a checkpoint."""
    changes = dict(EVERYTHING)
    if adapter:
        pytest.importorskip("peft")
        changes["model"] = {"path": str(domain.path / "cold" / "final"), "lora": {"rank": 4, "alpha": 8}}
    configs = [write_toml(tmp_path / f"{name}.toml", domain.rl(tmp_path / name, **changes)) for name in ("run", "reference")]
    arpo.succeed("train", configs[1])
    rows = [json.loads(line) for line in (tmp_path / "reference" / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["rollout/groups_replaced"] for row in rows) > 0
    assert max(row["rollout/rounds"] for row in rows) > 1
    assert max(row["train/updates"] for row in rows) > 2
    assert all(row["train/kl"] > 0 for row in rows[1:])
    command: tuple[object, ...] = ("train", configs[0])
    for place in (
        ("arpo.training.collector:Collector._collect_round", 4, "before"),
        ("arpo.training.update:optimizer_step", 3, "after"),
        ("arpo.training.checkpoint:Checkpoints.save", 1, "before"),
    ):
        killed = arpo(*command, die_at=place)
        assert killed.code == -signal.SIGKILL, (place, killed.stderr)
        command = ("train", "--resume", tmp_path / "run")
    arpo.succeed(*command)
    assert_same(tmp_path / "run", tmp_path / "reference")
    final = tmp_path / "reference" / "final"
    assert (final / "model.safetensors").is_file()
    assert (final.resolve().parent / "adapter").is_dir() == adapter


def test_the_budgets_of_tasks_go_on(arpo, domain, write_toml, tmp_path: Path):
    """A rule that plans by the tasks' earlier groups: killed between checkpoints, it has the same budgets as without a stop."""
    changes: dict[str, Any] = {
        "algorithm": "mixed_outcomes", "num_steps": 6, "tasks_per_step": 4, "rollout": {"group_size": 8, "entropy_window": 3},
        "checkpoint": {"every": 2, "keep": 2},
    }  # fmt: skip
    configs = [write_toml(tmp_path / f"{name}.toml", domain.rl(tmp_path / name, **changes)) for name in ("run", "reference")]
    arpo.succeed("train", configs[1])
    rows = [json.loads(line) for line in (tmp_path / "reference" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["rollout/known_task_rate"] == 0
    assert rows[0]["rollout/branch_budget_min"] == rows[0]["rollout/branch_budget_max"] == 3  # floor(8 * 0.75 * 0.5 + 0.5)
    assert rows[-1]["rollout/known_task_rate"] == 1
    assert rows[-1]["rollout/branch_budget_min"] < rows[-1]["rollout/branch_budget_max"], "the tasks differ"
    assert sum(row["rollout/num_branches"] for row in rows) > 0
    state = json.loads((tmp_path / "reference" / "checkpoints" / "step_000006" / "trainer" / "trainer_state.json").read_text())
    assert sum(groups for groups, _ in state["outcomes"].values()) == 6 * 4
    command: tuple[object, ...] = ("train", configs[0])
    for place in (("arpo.training.learner:Learner.learn", 4, "before"), ("arpo.tracking.sinks:Tracker.log", 3, "after")):
        killed = arpo(*command, die_at=place)
        assert killed.code == -signal.SIGKILL, (place, killed.stderr)
        command = ("train", "--resume", tmp_path / "run")
    arpo.succeed(*command)
    assert_same(tmp_path / "run", tmp_path / "reference")


def signal_in(pid: int, seconds: float) -> None:
    subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -9 {pid} 2>/dev/null"])


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(arpo, domain, write_toml, wait_until, never_stopped: Path, tmp_path: Path):
    run = tmp_path / "run"
    pid = arpo.start("train", write_toml(tmp_path / "rl.toml", domain.rl(run)))
    wait_until((run / "rollouts" / "step_000002.jsonl.zst").is_file)
    os.kill(pid, signal.SIGINT)
    interrupted = arpo.wait()
    assert interrupted.code == 130
    assert f"arpo train --resume {run}" in interrupted.stderr.replace("\n", "")
    assert "Traceback" not in interrupted.stderr
    run = run.rename(tmp_path / "moved")
    arpo.succeed("train", "--resume", run)
    assert_same(run, never_stopped)


def test_a_finished_run_stays_as_it_is(arpo, never_stopped: Path):
    before = {p: p.stat().st_mtime_ns for p in (never_stopped / "checkpoints").rglob("*")}
    arpo.succeed("train", "--resume", never_stopped)
    assert {p: p.stat().st_mtime_ns for p in (never_stopped / "checkpoints").rglob("*")} == before


@pytest.mark.slow
def test_a_real_interpreter_is_killed(arpo, domain, write_toml, wait_until, never_stopped: Path, tmp_path: Path):
    run = tmp_path / "run"
    arguments = [sys.executable, "-m", "arpo.cli.main", "train"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*arguments, write_toml(tmp_path / "rl.toml", domain.rl(run))], env=environment)
    wait_until((run / "rollouts" / "step_000003.jsonl.zst").is_file)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    subprocess.run([*arguments, "--resume", run], env=environment, check=True, timeout=120)
    assert_same(run, never_stopped)


def test_a_finished_run_says_so_and_can_be_made_longer(arpo, domain, write_toml, never_stopped: Path, tmp_path: Path):
    """Two steps, nothing left; then two more of the same, which are those of a run of four."""
    run = tmp_path / "run"
    started = arpo.succeed("train", write_toml(tmp_path / "rl.toml", domain.rl(run, num_steps=2)))
    assert "without effect" not in started.stderr, "a preset's own values are no warning"
    finished = arpo.succeed("train", "--resume", run)
    assert "step 2 of 2 is done: nothing is left to do" in finished.stderr
    longer = arpo.succeed("train", "--resume", run, "--num_steps=4")
    assert "resuming after step 2" in longer.stderr
    assert "num_steps = 4" in (run / "config.toml").read_text()
    assert (run / "final" / "model.safetensors").read_bytes() == (never_stopped / "final" / "model.safetensors").read_bytes()
