"""`arpo doctor --config` and the refusal of what cannot fit, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 8192,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
    "tie_word_embeddings": False, "max_position_embeddings": 8192,
}  # fmt: skip
SMALL = LLAMA_70B | {
    "vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128,
}  # fmt: skip


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders `large` and `small` with a config.json and nothing else."""
    for name, settings in (("large", LLAMA_70B), ("small", SMALL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
    return tmp_path


def rl(models: Path, name: str) -> dict[str, Any]:
    return {
        "out": str(models / "out"), "tasks": str(models / "tasks.jsonl"), "model": {"path": str(models / name)},
        "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_trajectory_tokens": 256}},
        "batching": {"max_tokens": 512},
    }  # fmt: skip


def test_the_memory_of_a_run_by_phase(arpo, write_toml, models: Path) -> None:
    """From config.json alone; float32: 16 bytes for each parameter of the update."""
    file = write_toml(models / "rl.toml", rl(models, "small"))
    result = arpo("doctor", "--config", file, "--json", "--memory", "1")
    assert result.code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [phase["name"] for phase in told["phases"]] == ["sampling", "log-probs", "update", "optimizer", "checkpoint"]
    update = told["phases"][2]
    states = sum(update["rows"][name] for name in ("weights", "gradients", "optimizer moments"))
    assert states == 16 * told["size"]["parameters"]
    assert update["total"] == sum(update["rows"].values())
    assert (told["available"], told["fits"], told["pass_tokens"]) == (10**9, True, 512)
    table = arpo("doctor", "--config", file, "--batching.max_tokens=1024")
    assert table.code == 0
    assert "1,024 packed tokens" in table.stdout
    assert "optimizer moments" in table.stdout


def test_the_memory_of_each_rank(arpo, write_toml, models: Path) -> None:
    """In float32 on 4 ranks: a quarter of 16 bytes per parameter, and while sampling the whole weights, 4 bytes."""
    file = write_toml(models / "rl.toml", rl(models, "small"))
    result = arpo("doctor", "--config", file, "--json", "--memory", "1", "--ranks", "4")
    assert result.code == 0, result.stderr
    told = json.loads(result.stdout)
    rows = {phase["name"]: phase["rows"] for phase in told["phases"]}
    parameters = told["size"]["parameters"]
    assert sum(rows["update"][name] for name in ("weights", "gradients", "optimizer moments")) == 4 * parameters
    assert rows["sampling"]["gathered weights"] == rows["checkpoint"]["gathered weights"] == 4 * parameters
    assert told["num_ranks"] == 4
    assert "on each of 4 ranks" in arpo("doctor", "--config", file, "--ranks", "4").stdout
    assert "--ranks=0" in arpo("doctor", "--config", file, "--ranks", "0").stderr


def test_what_does_not_fit_is_one_line_after_the_table(arpo, write_toml, models: Path) -> None:
    file = write_toml(models / "rl.toml", rl(models, "small"))
    result = arpo("doctor", "--config", file, "--memory", "0.01")
    assert result.code == 2
    assert "together" in result.stdout
    (line,) = result.stderr.strip().splitlines()
    assert "cpu has 0.01 GB" in line
    assert "lower" in line or "set" in line


@pytest.mark.parametrize("command", ["train", "sft"])
def test_training_what_cannot_fit_is_refused_before_anything_is_read(command: str, arpo, write_toml, models: Path) -> None:
    """70.55 billion parameters of 16 bytes are 1,129 GB; there are no tasks, no weights and no tokenizer."""
    config = rl(models, "large")
    if command == "sft":
        config = {"out": config["out"], "data": str(models / "data.jsonl"), "model": config["model"]}
    result = arpo(command, write_toml(models / "run.toml", config))
    assert result.code == 2
    line = result.stderr.strip().splitlines()[-1]
    for words in ("model.path", "70.55 of its 70.55 billion", "gradients 282", "= 1129 GB", "cpu has", "--model.lora.rank=16"):
        assert words in line
    assert not (models / "out").exists()


BAD = {
    "--model without a run": (["--model", "small"], "arpo doctor --model: needs --config FILE"),
    "--ranks without a run": (["--ranks", "2"], "arpo doctor --ranks: needs --config FILE"),
    "a key without a run": (["--batching.max_tokens=9"], "arpo doctor --batching.max_tokens: needs --config FILE"),
    "no such file": (["--config", "none.toml"], "none.toml"),
    "a file of another kind": (["--config", "eval.toml"], "neither `arpo train` (it has no tasks) nor `arpo sft`"),
    "no such model": (["--config", "rl.toml", "--model", "nowhere"], "model.path = 'nowhere': its memory cannot be told"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, arpo, write_toml, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, words = BAD[name]
    write_toml(models / "rl.toml", rl(models, "small"))
    (models / "eval.toml").write_text('out = "x"\nbenchmarks = []\n')
    arguments = [str(models / a) if a.endswith(".toml") else a for a in arguments]
    result = arpo("doctor", *arguments)
    assert result.code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
