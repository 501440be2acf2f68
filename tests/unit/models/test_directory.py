"""Model directories as people have them: each loads as transformers loads it, or is refused in one line; no random weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from arpo.errors import ModelError
from arpo.models.directory import check_directory, forget_origin
from arpo.models.loading import load_policy, save_policy
from arpo.models.shards import copy_weights_as, read_header, stored_tensors

SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "max_position_embeddings": 128, "vocab_size": 400,
}  # fmt: skip
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
IDS = torch.arange(10)[None]


@pytest.fixture
def directory(tmp_path: Path, make_tokenizer_directory: Callable[..., Path]) -> Path:
    """A tied Llama in several files."""
    folder = make_tokenizer_directory(tmp_path / "model", "llama3")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
    model.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def refusal(directory: Path, *words: str) -> str:
    """What `load_policy` says of a directory it refuses; one line that names the directory and has the words."""
    with pytest.raises(ModelError) as caught:
        load_policy(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    assert [word for word in words if word not in message] == [], message
    return message


def edit(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))


def join(directory: Path) -> dict[str, torch.Tensor]:
    """Put the weights into one file; return them."""
    tensors = {name: tensor for file in directory.glob("model-*.safetensors") for name, tensor in load_file(file).items()}
    for file in directory.glob("model*safetensors*"):
        file.unlink()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return tensors


def test_shards_in_and_out(directory: Path, tmp_path: Path):
    model = load_policy(directory)
    expected = AutoModelForCausalLM.from_pretrained(directory)(IDS).logits
    assert torch.equal(model(IDS).logits, expected)
    copy_weights_as(directory, _like(directory, tmp_path / "copy"), max_shard_bytes=20_000)
    files = sorted(path.name for path in (tmp_path / "copy").glob("model*"))
    index = json.loads((tmp_path / "copy" / "model.safetensors.index.json").read_text())
    assert len(files) - 1 == len(set(index["weight_map"].values())) > 1
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in model.parameters())
    assert all(
        t.file.stat().st_size <= 20_000 + 2_000 or t.num_bytes > 20_000 for t in stored_tensors(tmp_path / "copy").values()
    )
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "copy")(IDS).logits, expected)
    save_policy(model, directory, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    assert torch.equal(load_policy(tmp_path / "saved")(IDS).logits, expected)


def _like(source: Path, copy: Path) -> Path:
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("model*"))
    return copy


def test_weights_in_another_format_are_rounded_once(directory: Path, tmp_path: Path):
    copy_weights_as(directory, _like(directory, tmp_path / "copy"), torch.bfloat16)
    copied = load_file(tmp_path / "copy" / "model.safetensors")
    assert copied.keys() == stored_tensors(directory).keys()
    for name, tensor in load_policy(directory).state_dict().items():
        assert name == "lm_head.weight" or torch.equal(copied[name], tensor.to(torch.bfloat16))


def test_numbers_that_a_format_cannot_hold_are_refused(directory: Path, tmp_path: Path):
    tensors = join(directory)
    tensors["model.norm.weight"][0] = 70000.0  # float16 ends at 65504
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight: holds 70000, more than float16 can \(65504\); use bfloat16"):
        copy_weights_as(directory, _like(directory, tmp_path / "half"), torch.float16)
    copy_weights_as(directory, _like(directory, tmp_path / "brain"), torch.bfloat16)


def test_a_missing_shard(directory: Path):
    shards = sorted(directory.glob("model-*.safetensors"))
    shards[1].unlink()
    refusal(directory, f"of its {len(shards)} weight files are missing", shards[1].name, "fetch or copy the missing")


def test_an_index_that_is_none(directory: Path):
    (directory / "model.safetensors.index.json").write_text("{}")
    refusal(directory, "not an index of weights", "fetch or write the model again")
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    refusal(directory, "names 'elsewhere.safetensors'", "no safetensors file of this folder")


@pytest.mark.parametrize("part", ["config.json", "tokenizer.json", "model.safetensors.index.json", "a shard"])
def test_git_lfs_pointers(directory: Path, part: str):
    name = sorted(directory.glob("model-*.safetensors"))[0].name if part == "a shard" else part
    (directory / name).write_text(POINTER)
    refusal(directory, name, "Git LFS pointer", "git lfs pull")


@pytest.mark.parametrize("cut", [4, 100, -1])
def test_weights_that_are_cut_off(directory: Path, cut: int):
    shard = sorted(directory.glob("model-*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:cut])
    refusal(directory, shard.name, "cut off", "fetch it again")


def test_a_header_that_is_none(directory: Path):
    shard = sorted(directory.glob("model-*.safetensors"))[0]
    for content in (b"", b"\xff" * 64, (4).to_bytes(8, "little") + b"null", (2).to_bytes(8, "little") + b"{}more"):
        shard.write_bytes(content)
        refusal(directory, shard.name, "fetch it again")
    with pytest.raises(ModelError, match="its header says 10"):
        read_header(shard)


def test_an_adapter_alone(directory: Path):
    """peft writes such a folder; transformers would load the base that it names, from wherever that is."""
    for file in directory.glob("model*"):
        file.unlink()
    save_file({"base_model.model.x": torch.ones(1)}, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-7B-Instruct"}')
    refusal(directory, "an adapter alone", "--base Qwen/Qwen2.5-7B-Instruct", "arpo export")
    (directory / "config.json").unlink()
    refusal(directory, "an adapter alone")


def test_an_adapter_beside_a_model(directory: Path):
    (directory / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    refusal(directory, "a model and an adapter", "a folder of their own")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"])
def test_pickled_weights_alone(directory: Path, name: str):
    for file in directory.glob("model*"):
        file.unlink()
    (directory / name).write_bytes(b"\x80\x04not to be read")
    refusal(directory, name, "pickled", "save_pretrained")


def test_safetensors_of_another_name(directory: Path):
    join(directory)
    (directory / "model.safetensors").rename(directory / "consolidated.safetensors")
    refusal(directory, "consolidated.safetensors, a name that transformers does not read")


def test_pickled_weights_beside_safetensors_are_not_read(directory: Path):
    expected = load_policy(directory)(IDS).logits
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04not to be read")
    assert torch.equal(load_policy(directory)(IDS).logits, expected)


def test_code_of_a_model_is_never_run(directory: Path, tmp_path: Path):
    (directory / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto_map = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    expected = load_policy(directory)(IDS).logits
    edit(directory, auto_map=auto_map)
    assert torch.equal(load_policy(directory)(IDS).logits, expected), "transformers has this architecture itself"
    edit(directory, model_type="of_my_own")
    refusal(directory, "'of_my_own' needs code of its own", "never runs")
    assert not (tmp_path / "ran").exists()


def test_quantised_weights(directory: Path):
    edit(directory, quantization_config={"quant_method": "gptq", "bits": 4})
    refusal(directory, "quantised", "'gptq'", "unquantised checkpoint")


def test_tied_weights_saved_or_not(directory: Path):
    """The head is the embeddings: absent, saved twice, or saved under its own name alone."""
    tensors, name = join(directory), "model.embed_tokens.weight"
    expected = load_policy(directory)(IDS).logits
    rest = {key: value for key, value in tensors.items() if key != name}
    for both in ({name: tensors[name], "lm_head.weight": tensors[name].clone()}, {"lm_head.weight": tensors[name]}):
        save_file(rest | both, directory / "model.safetensors", metadata={"format": "pt"})
        assert torch.equal(load_policy(directory)(IDS).logits, expected)


def test_tied_weights_that_differ(directory: Path):
    tensors = join(directory)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    refusal(directory, "tie_word_embeddings = true", "lm_head", "set it to false")
    edit(directory, tie_word_embeddings=False)
    assert torch.equal(load_policy(directory).get_output_embeddings().weight, tensors["lm_head.weight"])


def test_an_untied_model_without_its_head(directory: Path):
    edit(directory, tie_word_embeddings=False)
    refusal(directory, "lack 1 tensors", "'lm_head.weight'", "random")


def test_rope_in_its_old_and_new_form(directory: Path):
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 64}
    plain = load_policy(directory)(IDS).logits
    config = json.loads((directory / "config.json").read_text())
    config.pop("rope_parameters", None)
    (directory / "config.json").write_text(json.dumps(config | {"rope_theta": 500.0, "rope_scaling": rope}))
    old = load_policy(directory)(IDS).logits
    (directory / "config.json").write_text(json.dumps(config | {"rope_parameters": rope | {"rope_theta": 500.0}}))
    assert torch.equal(load_policy(directory)(IDS).logits, old)
    assert not torch.equal(old, plain)


def test_a_directory_for_its_tokenizer_alone(directory: Path):
    for file in [*directory.glob("model*"), directory / "config.json"]:
        file.unlink()
    check_directory(directory, needs_weights=False)
    with pytest.raises(ModelError, match=r"model\.path = 'x': no configuration \(config\.json\)"):
        check_directory(directory, "model.path = 'x'")


def test_licence_and_card_go_with_every_directory(directory: Path, tmp_path: Path):
    texts = {"LICENSE": "Apache", "NOTICE.txt": "by A", "README.md": "card", "METADATA": "Name: x"}
    for name, text in texts.items():
        (directory / name).write_text(text)
    save_policy(load_policy(directory), directory, tmp_path / "saved")
    assert {name: (tmp_path / "saved" / name).read_text() for name in texts} == texts


def test_written_configurations_name_no_folder(directory: Path, tmp_path: Path):
    edit(directory, _name_or_path="/home/me/secret", _model_name_or_path="/home/me/secret")
    save_policy(load_policy(directory), directory, tmp_path / "saved")
    assert not [file for file in (tmp_path / "saved").glob("*.json") if "secret" in file.read_text()]
    forget_origin(directory)
    assert "secret" not in (directory / "config.json").read_text()


@pytest.mark.parametrize("needs_weights", [True, False])
def test_a_run_or_a_checkpoint_names_the_model_below_it(directory: Path, tmp_path: Path, needs_weights: bool):
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000004"
    checkpoint.mkdir(parents=True)
    directory.rename(checkpoint / "model")
    (tmp_path / "run" / "final").symlink_to(checkpoint / "model")
    for folder, meant in ((checkpoint, checkpoint / "model"), (tmp_path / "run", tmp_path / "run" / "final")):
        with pytest.raises(ModelError, match=f"did you mean {meant}"):
            check_directory(folder, needs_weights=needs_weights)
