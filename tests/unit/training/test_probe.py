from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from arpo.errors import EngineError
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.config import LoraConfig, TrainedModelConfig
from arpo.models.loading import load_policy, load_trained_policy
from arpo.models.lora import adapter_parameters
from arpo.models.policy import PolicyModel
from arpo.protocols.encoding import PolicyTokenizer
from arpo.training.probe import check_agreement

PROMPT = [5, 6, 7, 8]


@pytest.fixture
async def engine_of(policy: Path) -> AsyncIterator[Callable[[PreTrainedModel], TransformersEngine]]:
    engines: list[TransformersEngine] = []

    def make(model: PreTrainedModel) -> TransformersEngine:
        engines.append(TransformersEngine(model, decode=PolicyTokenizer.load(policy).decode, eos_ids=frozenset()))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.aclose()


@pytest.mark.parametrize("temperature", [0.7, 1.0])
async def test_engine_and_trainer_agree(policy: Path, engine_of, temperature: float):
    model = load_policy(policy)
    engine = engine_of(model)
    assert await check_agreement(PolicyModel(model, temperature), engine, PROMPT) < 1e-5
    assert engine.cache.num_used_slots == 0, "the probe leaves nothing behind"


async def test_an_engine_with_other_weights_is_refused(policy: Path, engine_of):
    model, stale = load_policy(policy), load_policy(policy)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.05)
    engine = engine_of(stale)
    with pytest.raises(EngineError, match=r"engine and trainer differ by .* does not run the trainer's weights"):
        await check_agreement(PolicyModel(model), engine, PROMPT)


async def test_weights_that_are_not_numbers_are_named(policy: Path, engine_of):
    model, whole = load_policy(policy), load_policy(policy)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(EngineError, match="its weights hold NaN"):
        await check_agreement(PolicyModel(model), engine_of(whole), PROMPT)


async def test_an_engine_that_ignores_weight_updates_is_refused_and_the_model_left_as_it_was(policy: Path, engine_of):
    model, copy = load_policy(policy), load_policy(policy)
    engine = engine_of(copy)  # the same weights, but its own

    async def ignore(*_: object) -> None:
        pass

    engine.update_weights = ignore
    with pytest.raises(EngineError, match=r"a weight update did not reach the engine"):
        await check_agreement(PolicyModel(model), engine, PROMPT)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), copy.parameters(), strict=True))


async def test_an_adapter_is_probed_and_left_as_it_was(policy: Path, engine_of):
    pytest.importorskip("peft")
    model = load_trained_policy(TrainedModelConfig(path=policy, lora=LoraConfig(rank=2)), seed=0)
    before = [p.detach().clone() for p in model.parameters()]
    assert await check_agreement(PolicyModel(model), engine_of(model), PROMPT) < 1e-5
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


async def test_an_engine_with_a_model_of_its_own_takes_every_update_an_adapter_included(policy: Path, engine_of):
    pytest.importorskip("peft")
    model = load_trained_policy(TrainedModelConfig(path=policy, lora=LoraConfig(rank=2)), seed=0)
    own = load_policy(policy)
    assert await check_agreement(PolicyModel(model), engine_of(own), PROMPT) < 1e-5


async def test_an_engine_reads_weights_from_a_folder(policy: Path, engine_of):
    own = load_policy(policy)
    kept = [p.detach().clone() for p in own.parameters()]
    with torch.no_grad():
        own.get_input_embeddings().weight.mul_(1.05)
    engine = engine_of(own)
    await engine.update_weights(policy, 7)
    assert engine.version == 7
    assert all(torch.equal(p, q) for p, q in zip(own.parameters(), kept, strict=True))


async def test_an_engine_that_takes_the_weights_but_not_the_adapter_is_refused(policy: Path, engine_of):
    pytest.importorskip("peft")
    model, copy = (load_trained_policy(TrainedModelConfig(path=policy, lora=LoraConfig(rank=2)), seed=0) for _ in range(2))
    engine = engine_of(copy)

    async def copy_base_weights(*_: object) -> None:
        own = adapter_parameters(copy)
        copy.load_state_dict({name: p for name, p in model.state_dict().items() if name not in own}, strict=False)

    engine.update_weights = copy_base_weights
    with pytest.raises(EngineError, match=r"a weight update did not reach the engine"):
        await check_agreement(PolicyModel(model), engine, PROMPT)
