"""A device that is not here ends every command at once: exit code 2, one line, nothing written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

NO_SUCH = "cuda:99" if torch.cuda.is_available() else "cuda"


@pytest.fixture
def config_of(domain, tmp_path: Path):
    """The configuration of a command, whose data would be refused later."""

    def make(command: str, **changes: Any) -> dict[str, Any]:
        out, broken = tmp_path / "out", tmp_path / "broken.jsonl"
        broken.write_text(json.dumps({"neither": "task nor conversation"}))
        if command == "rollout":
            keys = ("num_threads", "agent", "model", "rollout")
            return (
                {"out": str(out), "tasks": str(broken)} | {k: domain.rl(out)[k] for k in keys if k in domain.rl(out)} | changes
            )
        make = {"train": domain.rl, "sft": domain.sft, "eval": domain.evaluation}[command]
        return make(out, **{"data" if command == "sft" else "tasks": str(broken)} | changes)

    return make


@pytest.mark.parametrize("command", ["train", "sft", "eval", "rollout"])
@pytest.mark.parametrize(
    ("device", "words"),
    [
        (NO_SUCH, "this machine"),
        ("mps", "the devices are auto, cpu, cuda and, of several, cuda:0, cuda:1, ...; set one of them"),
        ("cuda:x", "the devices are auto, cpu, cuda and"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_here(arpo, write_toml, config_of, tmp_path: Path, command: str, device: str, words: str):
    config = write_toml(tmp_path / "config.toml", config_of(command))
    result = arpo(command, config, f"--model.device={device}")
    assert result.code == 2
    [line] = result.stderr.splitlines()
    assert f"model.device = {device!r}: " in line
    assert words in line
    assert not (tmp_path / "out").exists()


def test_the_bench_refuses_it_too(arpo):
    result = arpo("bench", "train", "--model", "tiny", "--device", NO_SUCH)
    assert result.code == 2
    [line] = result.stderr.splitlines()
    assert f"--device = {NO_SUCH!r}: " in line


@pytest.mark.parametrize("command", ["eval", "rollout"])
def test_vllm_finds_its_device_by_itself(arpo, write_toml, config_of, tmp_path: Path, command: str):
    config = config_of(command, engine={"type": "vllm"}, **({"deterministic": False} if command == "eval" else {}))
    if command == "rollout":
        config["rollout"] = config.get("rollout", {}) | {"deterministic": False}
    result = arpo(command, write_toml(tmp_path / "config.toml", config), "--model.device=cuda")
    assert result.code == 2
    [line] = result.stderr.splitlines()
    assert "model.device = 'cuda' has no effect with engine.type = 'vllm'" in line
