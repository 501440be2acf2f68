"""Runs on several ranks: trees, calls, rewards and weights of one rank, checkpoints for any number, and one message."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from arpo.tree import read_trees

OF_PROCESSES = ("_s", "_mb", "tool_calls_executed", "cached_rate")
"""Endings of metrics of wall time and memory, and of identical calls, which are answered together within one process only."""


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def trees_of(run: Path) -> list[Any]:
    """Token ids, calls and rewards of every tree, in the order of the files."""
    found = []
    for file in sorted((run / "rollouts").glob("*.zst")):
        for tree in sorted(read_trees(file), key=lambda tree: tree.task.id):
            nodes = [(n.parent, n.kind, n.token_ids, n.parse, n.reward.value if n.reward else None) for n in tree.nodes]
            found.append((file.name, tree.task.id, nodes))
    return found


def assert_close(run: Path, reference: Path, tolerance: float = 1e-6) -> None:
    """Equal trees; metrics and weights within rounding."""
    assert trees_of(run) == trees_of(reference)
    rows, expected = rows_of(run), rows_of(reference)
    assert len(rows) == len(expected)
    for row, of_one in zip(rows, expected, strict=True):
        assert row.keys() == of_one.keys()
        for name, value in of_one.items():
            if not name.endswith(OF_PROCESSES):
                assert row[name] == pytest.approx(value, rel=tolerance, abs=tolerance), (row["step"], name)
    weights, of_one = (load_file(folder / "final" / "model.safetensors") for folder in (run, reference))
    assert weights.keys() == of_one.keys()
    assert all(torch.allclose(value, of_one[name], rtol=0, atol=tolerance) for name, value in weights.items())


@pytest.fixture(scope="module")
def of_one(arpo, domain, write_toml, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process in float64."""
    folder = tmp_path_factory.mktemp("of_one")
    arpo.succeed("train", write_toml(folder / "rl.toml", rl(domain, folder / "run")))
    return folder / "run"


def rl(domain: Any, out: Path, **changes: Any) -> dict[str, Any]:
    model = {"path": str(domain.path / "cold" / "final"), "dtype": "float64"}
    return domain.rl(out, tasks_per_step=3, model=model, **changes)  # an odd number of trees


def test_two_ranks_train_as_one(arpo, domain, write_toml, of_one: Path, tmp_path: Path):
    run = tmp_path / "run"
    result = arpo.succeed("train", write_toml(tmp_path / "rl.toml", rl(domain, run)), ranks=2)
    assert_close(run, of_one)
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert len(names) == len(set(names)), "one rank prints the summary"


def test_a_run_goes_on_with_other_ranks(arpo, domain, write_toml, of_one: Path, tmp_path: Path):
    """Two steps on 2 ranks, which a kill ends in the third, one on 1, and the last on 4, one of them without a tree."""
    run = tmp_path / "run"
    config = write_toml(tmp_path / "rl.toml", rl(domain, run, checkpoint={"every": 1, "keep": 1}))
    killed = arpo("train", config, ranks=2, die_at=("arpo.training.update:optimizer_step", 3, "before"))
    assert killed.codes == [2, -signal.SIGKILL]
    errors = [line for line in killed.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1, killed.stderr
    assert f"go on with `torchrun --nproc-per-node 2 -m arpo train --resume {run}`" in errors[0]
    assert "Traceback" not in killed.stderr
    arpo("train", "--resume", run, die_at=("arpo.training.update:optimizer_step", 2, "before"))
    assert [row["step"] for row in rows_of(run)] == [1, 2, 3]
    arpo.succeed("train", "--resume", run, ranks=4)
    assert_close(run, of_one)


def test_an_error_is_told_once(arpo, domain, write_toml, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    result = arpo("train", write_toml(tmp_path / "rl.toml", rl(domain, run)), ranks=2)
    assert set(result.codes) <= {2, -signal.SIGTERM}, "torchrun may end the silent one"
    assert result.stderr.count("error: ") == 1, result.stderr
    assert "not empty" in result.stderr
    result = arpo("train", "nothing.toml", ranks=2)
    assert result.stderr.count("error: ") == 1, result.stderr
    result = arpo("train", "quickstart", "--num_stepz=3", ranks=2)
    assert result.stderr.count("error: ") == 1, result.stderr
    result = arpo("rollout", "quickstart", ranks=2)
    assert "runs in one process" in result.stderr
    assert result.stderr.count("error: ") == 1, result.stderr


def test_sft_and_evaluation_on_two_ranks(arpo, domain, write_toml, tmp_path: Path):
    model = {"path": str(domain.path / "policy"), "dtype": "float64"}
    changes = {"num_epochs": 2, "model": model, "validation": {"fraction": 0.2, "every": 3}, "batching": {"max_tokens": 96}}
    for ranks in (1, 2):
        out = tmp_path / f"sft{ranks}"
        arpo.succeed("sft", write_toml(tmp_path / "sft.toml", domain.sft(out, **changes)), ranks=ranks)
        out = tmp_path / f"eval{ranks}"
        arpo.succeed("eval", write_toml(tmp_path / "eval.toml", domain.evaluation(out)), ranks=ranks)
    assert_close(tmp_path / "sft2", tmp_path / "sft1")
    for name in ("records.jsonl", "failures.jsonl"):
        assert (tmp_path / "eval2" / name).read_text() == (tmp_path / "eval1" / name).read_text()


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {"dynamic_sampling": {"max_rounds": 2}, "task_filter": {"after": 1}},
        {"lora": {"rank": 4}, "loss": {"kl": {"coefficient": 0.1, "estimator": "k3"}}, "updates_per_step": 2},
        {"algorithm": "aepo", "loss": {"kl": {"coefficient": 0.1, "estimator": "k3"}}},
    ],
    ids=["dynamic sampling and a filter", "an adapter, a reference and two updates", "aepo with a reference"],
)
def test_other_runs_on_several_ranks(arpo, domain, write_toml, tmp_path: Path, ranks: int, changes: dict[str, Any]):
    """The ranks of four have no tree or one."""
    for size in (1, ranks):
        config = rl(domain, tmp_path / str(size), **{key: value for key, value in changes.items() if key != "lora"})
        config["model"] |= {"lora": changes["lora"]} if "lora" in changes else {}
        arpo.succeed("train", write_toml(tmp_path / "rl.toml", config), ranks=size)
    assert_close(tmp_path / str(ranks), tmp_path / "1")


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """The real launcher, with interpreters of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, arguments)]
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def pid_of_rank(launcher: int, rank: int) -> int:
    """The process of a rank among the launcher's children."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return next(int(c) for c in children if f"RANK={rank}".encode() in Path(f"/proc/{c}/environ").read_bytes().split(b"\0"))


@pytest.mark.distributed
def test_torchrun_ends_with_one_message_and_restarts_from_the_checkpoint(
    arpo, domain, write_toml, wait_until, of_one: Path, tmp_path: Path
):
    """A rank is killed by SIGKILL twice: without a restart, then with one."""
    run = tmp_path / "run"
    config = write_toml(tmp_path / "rl.toml", rl(domain, run, checkpoint={"every": 1, "keep": 1}))
    process = torchrun("-m", "arpo", "train", config)
    wait_until(lambda: (run / "checkpoints" / "step_000001").is_dir())
    os.kill(pid_of_rank(process.pid, 1), signal.SIGKILL)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode != 0
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    assert f"go on with `torchrun --nproc-per-node 2 -m arpo train --resume {run}`" in errors[0]
    step = len(rows_of(run))
    process = torchrun("--max-restarts", "1", "-m", "arpo", "train", config, "--resume", "auto")
    wait_until(lambda: len(rows_of(run)) > step or process.poll() is not None)
    assert process.poll() is None, "it did not end before it could be killed"
    os.kill(pid_of_rank(process.pid, 1), signal.SIGKILL)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert_close(run, of_one)
