import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from arpo.errors import ModelError
from arpo.models.loading import load_policy, save_policy
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama3": (LlamaConfig, LlamaForCausalLM),
}
SIZES = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip


def write_model(directory: Path, style: str, make_tokenizer_directory, vocab_size: int | None = None) -> Path:
    make_tokenizer_directory(directory, style)
    vocab_size = vocab_size or PolicyTokenizer.load(directory).vocab_size + 3  # checkpoints pad their embeddings
    make_config, make_model = FAMILIES[style]
    torch.manual_seed(0)
    make_model(make_config(vocab_size=vocab_size, **SIZES)).save_pretrained(directory)
    return directory


@pytest.fixture
def directory(tmp_path: Path, make_tokenizer_directory) -> Path:
    return write_model(tmp_path / "model", "qwen2", make_tokenizer_directory)


@pytest.mark.parametrize("style", FAMILIES)
def test_families_load_and_carry_the_protocol(tmp_path: Path, style: str, make_tokenizer_directory):
    directory = write_model(tmp_path / "model", style, make_tokenizer_directory)
    model = load_policy(directory)
    assert type(model) is FAMILIES[style][1]
    assert not model.training
    tokenizer = PolicyTokenizer.load(directory)
    protocol = TagProtocol(tokenizer, TagProtocolConfig())
    text = "<think> a </think> <search> q </search>"
    ids = tokenizer.encode_markup(text)
    assert len(tokenizer.encode_markup("<search>")) > 1, "the tags need not be tokens"
    assert tokenizer.decode(ids) == text
    assert protocol.parse(tokenizer.decode(ids)).calls
    assert model(torch.tensor([ids])).logits.shape == (1, len(ids), tokenizer.vocab_size + 3)


@pytest.mark.parametrize("style", FAMILIES)
def test_saved_policies_are_the_same_policies(tmp_path: Path, style: str, make_tokenizer_directory):
    directory = write_model(tmp_path / "model", style, make_tokenizer_directory)
    model = load_policy(directory)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    save_policy(model, directory, tmp_path / "out" / "saved")
    again = load_policy(tmp_path / "out" / "saved")
    ids = torch.arange(10)[None]
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert PolicyTokenizer.load(tmp_path / "out" / "saved").encode_markup("the town") == PolicyTokenizer.load(
        directory
    ).encode_markup("the town")
    assert (tmp_path / "out" / "saved" / "model.safetensors").is_file()


def test_saving_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path, directory: Path):
    model = load_policy(directory)
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("old")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half.txt").write_text("from a run that was killed")
    save_policy(model, directory, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]
    assert not (out / "old.txt").exists()
    assert not (out / "half.txt").exists()
    save_policy(model, out, out)  # its own tokenizer, in place
    assert PolicyTokenizer.load(out).eos_ids


def test_number_format(directory: Path):
    assert next(load_policy(directory, dtype="bfloat16").parameters()).dtype is torch.bfloat16
    assert next(load_policy(directory, dtype="float64").parameters()).dtype is torch.float64
    with pytest.raises(ModelError, match="'half_precision' is not a torch number format"):
        load_policy(directory, dtype="half_precision")


def test_missing_parts_are_named(tmp_path: Path, directory: Path):
    with pytest.raises(ModelError, match="no such directory"):
        load_policy(tmp_path / "none")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        incomplete = tmp_path / f"without-{name}"
        shutil.copytree(directory, incomplete)
        (incomplete / name).unlink()
        with pytest.raises(ModelError, match=r"without-.*: no "):
            load_policy(incomplete)
    with pytest.raises(ModelError, match=r"no tokenizer\.json to copy"):
        save_policy(load_policy(directory), tmp_path, tmp_path / "out")


def test_broken_weights_are_refused(directory: Path):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"model\.safetensors: cut off within its header, .* \(100 bytes\); fetch it again"):
        load_policy(directory)


def test_an_unknown_architecture_is_refused(directory: Path):
    (directory / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ModelError, match="no_such_model"):
        load_policy(directory)


def test_weights_that_do_not_fill_the_model_are_refused(directory: Path):
    config = json.loads((directory / "config.json").read_text())
    config["num_hidden_layers"] = 3
    config["layer_types"] = None
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lack \d+ tensors of Qwen2ForCausalLM.*layers\.2"):
        load_policy(directory)


def test_weights_of_another_shape_are_refused(directory: Path):
    config = json.loads((directory / "config.json").read_text())
    config["intermediate_size"] = 64
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot load this model"):
        load_policy(directory)


def test_a_vocabulary_larger_than_the_embeddings_is_refused(tmp_path: Path, make_tokenizer_directory):
    directory = write_model(tmp_path / "model", "qwen2", make_tokenizer_directory, vocab_size=100)
    with pytest.raises(ModelError, match="only 100 embeddings"):
        load_policy(directory)


def test_a_nested_configuration_is_one_line(directory: Path):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen3", "text_config": config}))
    with pytest.raises(ModelError, match=r"its config\.json has a text_config") as caught:
        load_policy(directory)
    assert "\n" not in str(caught.value)
