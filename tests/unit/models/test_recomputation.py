"""Blocks that are computed again in the backward pass: the same gradients from fewer kept tensors."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BloomConfig, BloomForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from arpo.batching.packing import PackedTokens, PackNode, pack_trees
from arpo.errors import ConfigError
from arpo.models.config import LoraConfig, TrainedModelConfig
from arpo.models.loading import load_trained_policy
from arpo.models.lora import adapter_parameters, add_adapter
from arpo.models.policy import PolicyModel
from arpo.models.recomputation import recompute_blocks

PROMPT, FIRST, SECOND = list(range(5, 12)), list(range(20, 29)), list(range(40, 44))


def tree() -> PackedTokens:
    """A prompt of 7 with children of 9 and 4."""
    children = [PackNode(0, ids, [True] * len(ids)) for ids in (FIRST, SECOND)]
    return pack_trees([[PackNode(None, PROMPT, [False] * 7), *children]])


def flat() -> PackedTokens:
    """The same two paths, one after the other."""
    return pack_trees([[PackNode(None, [*PROMPT, *ids], [False] * 7 + [True] * len(ids))] for ids in (FIRST, SECOND)])


PACKS = {"tree": tree, "flat": flat}


def gradients(policy: PolicyModel, packed: PackedTokens) -> dict[str, Tensor]:
    policy.zero_grad(set_to_none=True)
    logprobs, entropies = policy(packed)
    (logprobs.sum() - 0.3 * entropies.sum()).backward()
    return {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("is_adapted", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_gradients_are_equal_to_the_bit(family: str, is_adapted: bool, pack: str, make_model) -> None:
    model: PreTrainedModel = make_model(family, dtype="float64")
    if is_adapted:
        pytest.importorskip("peft")
        add_adapter(model, LoraConfig(rank=4), seed=0)
        for name, parameter in adapter_parameters(model).items():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    kept, again = PolicyModel(model), PolicyModel(recompute_blocks(deepcopy(model)))
    expected, found = gradients(kept, PACKS[pack]()), gradients(again, PACKS[pack]())
    assert expected.keys() == found.keys()
    assert all("lora" in name for name in found) == is_adapted
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
        assert gradient.abs().max() > 0


def test_a_model_with_its_own_attention_is_computed_again_too() -> None:
    """A window of 3 tokens; each sequence is a pass of its own."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 16}
    window = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}
    config = Qwen3Config(vocab_size=50, num_hidden_layers=2, dtype=torch.float64, **sizes, **window)  # pyright: ignore[reportArgumentType]
    model = Qwen3ForCausalLM(config).double().eval()
    kept, again = (PolicyModel(m, needs_layout=False) for m in (model, recompute_blocks(deepcopy(model))))
    expected, found = gradients(kept, flat()), gradients(again, flat())
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def kept_bytes(policy: PolicyModel, packed: PackedTokens) -> int:
    """Bytes that the blocks keep between forward and backward, weights excepted, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = policy.network.base_model(
            input_ids=packed.token_ids[None], position_ids=packed.positions[None], use_cache=False, layout=packed.layout
        ).last_hidden_state
    del hidden
    return sum(kept.values())


def test_a_block_keeps_its_input_alone(make_model) -> None:
    """20 tokens of width 32 in float32 are 2,560 bytes: the input of each of 2 blocks, and that of the last norm.

    Besides them: ids (8 bytes each), positions' cosines and sines (8 numbers each), and the norm's scales.
    """
    model = make_model("llama")
    plain = kept_bytes(PolicyModel(deepcopy(model)), tree())
    again = kept_bytes(PolicyModel(recompute_blocks(model)), tree())
    assert 3 * 2560 <= again <= 3 * 2560 + 20 * (8 + 2 * 8 * 4 + 4)
    assert plain > 5 * again


def test_without_gradient_nothing_is_kept_and_nothing_changes(make_model) -> None:
    model = make_model()
    with torch.inference_mode():  # as in the engine
        expected = PolicyModel(deepcopy(model))(tree())
        found = PolicyModel(recompute_blocks(model))(tree())
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("is_on", [False, True])
def test_the_key_switches_it(is_on: bool, make_model, make_tokenizer_directory, tmp_path: Path) -> None:
    make_model(vocab_size=400).save_pretrained(make_tokenizer_directory(tmp_path / "model", "qwen3"))
    policy = PolicyModel(load_trained_policy(TrainedModelConfig(path=tmp_path / "model", gradient_checkpointing=is_on), seed=0))
    assert (kept_bytes(policy, tree()) < 20_000) == is_on


def test_an_architecture_without_blocks_is_refused() -> None:
    model = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2))
    for name, _ in list(model.transformer.h.named_children()):
        model.transformer.h.set_submodule(name, torch.nn.Identity())
    with pytest.raises(ConfigError, match=r"model\.gradient_checkpointing = true: BloomForCausalLM.*set it to false"):
        recompute_blocks(model)
