"""`arpo model show`: what it says of directories of known shape."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.cli.main import main
from arpo.protocols.encoding import PolicyTokenizer


def write(folder: Path, make_tokenizer_directory: Callable[..., Path], **changes: Any) -> Path:
    make_tokenizer_directory(folder, "qwen3")
    settings: dict[str, Any] = {
        "vocab_size": PolicyTokenizer.load(folder).vocab_size + 5, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "max_position_embeddings": 96, "tie_word_embeddings": True,
    }  # fmt: skip
    model = Qwen3ForCausalLM(Qwen3Config(**settings | changes)).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="4KB")
    return folder


def show(capsys: pytest.CaptureFixture[str], folder: Path) -> dict[str, Any]:
    assert main(["model", "show", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_sizes_of_a_directory(tmp_path: Path, make_tokenizer_directory, capsys: pytest.CaptureFixture[str]):
    """Per layer: q and o 16·16, k and v 16·8, three matrices 16·32, norms 2·16 and 2·8; last norm 16; embeddings 16 a row."""
    folder = write(tmp_path / "m", make_tokenizer_directory)
    tokens = PolicyTokenizer.load(folder).vocab_size
    found = show(capsys, folder)
    parameters = 2 * (2 * 256 + 2 * 128 + 3 * 512 + 32 + 16) + 16 + 16 * (tokens + 5)
    assert found["num_parameters"] == parameters
    assert found["dtypes"] == {"BF16": parameters}
    assert found["weight_gb"] == pytest.approx(2 * parameters / 1e9)
    assert (found["architecture"], found["num_layers"], found["width"]) == ("Qwen3ForCausalLM", 2, 16)
    assert (found["vocabulary_rows"], found["tokens"], found["num_positions"]) == (tokens + 5, tokens, 96)
    assert set(found["end_tokens"].values()) == PolicyTokenizer.load(folder).eos_ids
    assert found["is_tied"]
    assert found["abilities"]["tree training"] == "yes"
    assert found["protocols"]["tags"] == ""
    assert main(["model", "show", str(folder)]) == 0
    text = capsys.readouterr().out
    assert f"{tokens + 5} rows, {tokens} tokens, 5 rows without a token" in " ".join(text.replace("│", " ").split())


def test_layers_that_slide(tmp_path: Path, make_tokenizer_directory, capsys: pytest.CaptureFixture[str]):
    sliding = {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
    found = show(capsys, write(tmp_path / "m", make_tokenizer_directory, **sliding))
    assert found["num_sliding_layers"] == 1
    assert "sliding_attention" in found["abilities"]["tree training"]
    assert found["abilities"]["flat training"] == "yes"
    assert found["abilities"]["in-process engine"] == "yes, its sequences one by one"


def test_logits_that_change_are_said_to_be(tmp_path: Path, make_tokenizer_directory, capsys: pytest.CaptureFixture[str]):
    found = show(capsys, write(tmp_path / "m", make_tokenizer_directory, final_logit_softcapping=30.0))
    abilities = {name: found["abilities"][name] for name in ("tree training", "in-process engine", "flat training")}
    assert set(abilities.values()) == {"no: it changes its logits (final_logit_softcapping = 30.0)"}


def test_quantised_weights_are_said_to_be(tmp_path: Path, make_tokenizer_directory, capsys: pytest.CaptureFixture[str]):
    folder = write(tmp_path / "m", make_tokenizer_directory)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    found = show(capsys, folder)
    assert found["quantisation"] == "awq"
    assert found["abilities"]["flat training"] == "no: its weights are quantised (awq)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "no_such_network"}, ["transformers cannot read config.json", "no_such_network"]),
        ({"auto_map": {}, "model_type": "of_my_own"}, ["needs code of its own", "never runs"]),
    ],
)
def test_what_cannot_be_shown(
    tmp_path: Path, make_tokenizer_directory, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: list[str]
):
    folder = write(tmp_path / "m", make_tokenizer_directory)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    capsys.readouterr()  # what saving it printed
    assert main(["model", "show", str(folder)]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert [word for word in [str(folder), *words] if word not in message] == []


def test_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in (["show", "no_such_model"], ["get", "no_such_model", "--out", str(tmp_path / "out")]):
        assert main(["model", *arguments]) == 2
        assert "model 'no_such_model': no such directory or file here, and no hub name either" in capsys.readouterr().err
    assert main(["model", "show", str(tmp_path), "--revision", "v1"]) == 2
    assert "--revision = 'v1' has no effect on a directory of this machine" in capsys.readouterr().err
