"""Adapters, by the extra `peft`."""

import builtins
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from arpo.errors import ConfigError
from arpo.models.config import LoraConfig, TrainedModelConfig
from arpo.models.loading import load_policy, load_trained_policy, write_policy
from arpo.models.lora import (
    adapter_off,
    adapter_parameters,
    add_adapter,
    has_adapter,
    merged_weights,
    save_adapter,
)

IDS = torch.arange(12).unsqueeze(0)


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.fixture
def adapted(make_model) -> Callable[..., PreTrainedModel]:
    """Makes a model with an adapter whose B is not zero."""
    pytest.importorskip("peft")

    def make(*, dtype: str = "float32", seed: int = 0, is_trained: bool = True, **options: object) -> PreTrainedModel:
        model = make_model("qwen3", dtype=dtype)
        add_adapter(model, LoraConfig.model_validate({"rank": 4, "alpha": 8} | options), seed)
        for name, parameter in adapter_parameters(model).items() if is_trained else ():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
        return model

    return make


def test_a_fresh_adapter_changes_nothing_and_alone_is_trained(adapted, make_model):
    model = adapted(is_trained=False)
    assert torch.equal(logits(model), logits(make_model("qwen3")))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == adapter_parameters(model).keys()
    assert len(trained) == 2 * 2 * 7, "A and B on seven linear layers of two blocks"
    assert not any("lm_head" in name or "embed" in name for name in trained)


def test_the_scale_is_alpha_over_rank(adapted, make_model):
    """With targets of one layer the difference of its output is (alpha / rank) B A x."""
    model, plain = adapted(targets=["o_proj"]), make_model("qwen3")
    layer = model.model.layers[0].self_attn.o_proj
    a, b = (dict(layer.named_parameters())[f"lora_{x}.default.weight"] for x in "AB")
    x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(0))
    expected = plain.model.layers[0].self_attn.o_proj(x) + (8 / 4) * x @ a.T @ b.T
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert len(adapter_parameters(model)) == 2 * 2


def test_off_it_is_the_model_before_and_on_again_afterwards(adapted, make_model):
    model = adapted()
    before = logits(model)
    plain = logits(make_model("qwen3"))
    assert not torch.allclose(before, plain, atol=1e-2)
    with adapter_off(model):
        assert torch.equal(logits(model), plain)
    assert torch.equal(logits(model), before)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == adapter_parameters(model).keys()
    other = make_model("qwen3")
    with adapter_off(other):
        assert torch.equal(logits(other), plain)


def test_merged_it_is_an_ordinary_model(adapted, make_model, qwen_directory: Path, tmp_path: Path):
    """The directory loads without peft; the model itself keeps its adapter and every bit of its weights."""
    model = adapted(dtype="float64")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    plain = make_model("qwen3", dtype="float64")
    plain.load_state_dict(dict(merged_weights(model)), strict=True)
    assert torch.allclose(logits(plain), logits(model), atol=1e-6)
    write_policy(model, qwen_directory, tmp_path / "merged")
    names = {p.name for p in (tmp_path / "merged").iterdir()}
    assert "adapter_config.json" not in names
    again = type(plain).from_pretrained(tmp_path / "merged", dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), plain.parameters(), strict=True))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_without_an_adapter_the_weights_are_the_weights(make_model):
    model = make_model("qwen3")
    assert not has_adapter(model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in merged_weights(model))


def test_saved_to_the_bit_for_peft(adapted, make_model, tmp_path: Path):
    from peft import PeftModel

    model = adapted()
    save_adapter(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(make_model("qwen3"), tmp_path / "adapter")
    assert torch.equal(logits(theirs), logits(model))  # pyright: ignore[reportArgumentType]
    save_adapter(model, tmp_path / "again")
    for file in (tmp_path / "adapter").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_the_seed_decides_the_start(adapted):
    first, second, third = (torch.cat([p.flatten() for p in adapter_parameters(adapted(seed=s)).values()]) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_half_precision_models_have_adapters_in_float32(adapted):
    model = adapted(dtype="bfloat16")
    assert {p.dtype for p in adapter_parameters(model).values()} == {torch.float32}
    assert model.dtype is torch.bfloat16
    assert logits(model).dtype is torch.bfloat16


def test_an_unknown_layer_is_named(adapted):
    with pytest.raises(ConfigError, match=r"model.lora.targets holds 'qproj', but the linear layers .* k_proj, o_proj, q_proj"):
        adapted(targets=["q_proj", "qproj"])
    with pytest.raises(ConfigError, match=r"model.lora.targets holds 'lm_head'"):
        adapted(targets=["lm_head"])


def test_a_missing_extra_is_named(make_model, monkeypatch: pytest.MonkeyPatch):
    found = builtins.__import__

    def without_peft(name: str, *args: object, **options: object) -> object:
        if name == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
        return found(name, *args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ConfigError, match=r"package 'peft' is not installed: pip install 'arpo\[peft\]'"):
        add_adapter(make_model("qwen3"), LoraConfig(), 0)


def test_a_policy_is_loaded_as_configured(make_tokenizer_directory, tmp_path: Path):
    pytest.importorskip("peft")
    directory = make_tokenizer_directory(tmp_path / "policy", "qwen3")
    config = Qwen3Config(vocab_size=400, hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    Qwen3ForCausalLM(config).save_pretrained(directory)
    assert not has_adapter(load_policy(directory))
    assert not has_adapter(load_trained_policy(TrainedModelConfig(path=directory), seed=0))
    assert has_adapter(load_trained_policy(TrainedModelConfig(path=directory, lora=LoraConfig()), seed=0))
