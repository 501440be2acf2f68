"""The engine for models that keep their own attention draws what the trainer measures and what the cached engine draws."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from arpo.batching.packing import PackNode, pack_trees
from arpo.errors import EngineError, ModelError
from arpo.inference.sequence_engine import SequenceEngine
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.policy import PolicyModel
from arpo.models.weights import ModelWeights
from arpo.types import SamplingParams, StopReason

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 16, "initializer_range": 0.5,
}  # fmt: skip
WINDOW = {"sliding_window": 4}
UNLAYABLE: dict[str, Callable[[], PreTrainedModel]] = {
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, **WINDOW, layer_types=["sliding_attention", "full_attention"] * 2)
    ),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, **WINDOW, final_logit_softcapping=None)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, **WINDOW)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.5)),
}
PROMPT = [7, 3, 11, 2, 19, 5, 5, 8]
SAMPLING = SamplingParams(temperature=0.8, max_tokens=12)


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return UNLAYABLE[name]().eval()


def engine_of(model: PreTrainedModel) -> SequenceEngine:
    return SequenceEngine(model, decode=lambda ids: " ".join(map(str, ids)), eos_ids=frozenset())


@pytest.mark.parametrize("name", UNLAYABLE)
async def test_log_probs_are_those_of_the_trainer(name: str) -> None:
    """The prompt alone is longer than the window, so that every draw comes from a cache that has forgotten tokens."""
    model = make(name)
    engine = engine_of(model)
    prefix = await engine.prefill(None, PROMPT)
    completion, longer = await engine.generate(prefix, SAMPLING, seed=1)
    assert longer.token_ids == (*PROMPT, *completion.token_ids)
    policy = PolicyModel(model, SAMPLING.temperature, needs_layout=False)
    pack = pack_trees([[PackNode(None, PROMPT, [False] * 8), PackNode(0, completion.token_ids, [True] * 12)]])
    with torch.no_grad():
        logprobs, entropies = policy(pack)
    torch.testing.assert_close(logprobs, torch.tensor(completion.logprobs), rtol=0, atol=2e-5)
    torch.testing.assert_close(entropies, torch.tensor(completion.entropies), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", UNLAYABLE)
async def test_a_pause_a_fork_and_a_cut_change_no_draw(name: str) -> None:
    engine = engine_of(make(name))
    prefix = await engine.prefill(await engine.prefill(None, PROMPT[:3]), PROMPT[3:])
    whole, end = await engine.generate(prefix, SAMPLING, seed=1)
    first, middle = await engine.generate(prefix, SamplingParams(temperature=0.8, max_tokens=5), seed=1)
    assert first.stop_reason == StopReason.LENGTH
    rest, _ = await engine.generate(middle.fork(), SamplingParams(temperature=0.8, max_tokens=7), seed=1, position=5)
    assert [*first.token_ids, *rest.token_ids] == whole.token_ids
    cut = end.truncate(len(PROMPT) + 5, whole.token_ids[:5])
    again, _ = await engine.generate(cut, SamplingParams(temperature=0.8, max_tokens=7), seed=1, position=5)
    assert again.token_ids == rest.token_ids
    other, _ = await engine.generate(prefix, SAMPLING, seed=2)
    assert other.token_ids != whole.token_ids


async def test_it_draws_what_the_cached_engine_draws() -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES)).eval()
    ours = engine_of(deepcopy(model))
    theirs = TransformersEngine(model, decode=lambda ids: " ".join(map(str, ids)), eos_ids=frozenset())
    for seed in range(3):
        found = [(await e.generate(await e.prefill(None, PROMPT), SAMPLING, seed=seed))[0] for e in (ours, theirs)]
        assert found[0].token_ids == found[1].token_ids
        assert found[0].logprobs == pytest.approx(found[1].logprobs, abs=2e-5)
    await theirs.aclose()


async def test_new_weights_are_copied_and_proved_and_prefixes_of_former_ones_refused() -> None:
    model, other = make("mistral"), make("mistral")
    with torch.no_grad():
        other.lm_head.weight.mul_(-1)
    engine = engine_of(model)
    prefix = await engine.prefill(None, PROMPT)
    with pytest.raises(EngineError, match="1 prefixes of the former weights are held"):
        await engine.update_weights(ModelWeights(other), 1)
    prefix.release()
    await engine.update_weights(ModelWeights(other), 1)
    assert engine.version == 1
    assert await engine.weight_digests() == await engine_of(other).weight_digests()
    assert torch.equal(model.lm_head.weight, other.lm_head.weight)


def test_the_notice_names_the_model_and_why() -> None:
    assert engine_of(make("mistral")).notice == (
        "engine: mistral has a sliding window of 4 tokens, so that its sequences are computed one by one; slower than with "
        "other architectures"
    )


def test_a_head_whose_logits_are_capped_is_refused() -> None:
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, **WINDOW))
    for use in (engine_of, lambda network: PolicyModel(network, needs_layout=False)):
        with pytest.raises(ModelError, match=r"gemma2: its configuration has final_logit_softcapping = 30\.0"):
            use(model)
