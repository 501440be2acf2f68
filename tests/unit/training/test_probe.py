"""What the start-up probe lets through, and that it names every fault of an engine, in every number format."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.errors import EngineError
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.config import LoraConfig
from arpo.models.loading import load_policy
from arpo.models.lora import adapter_parameters, add_adapter
from arpo.models.policy import PolicyModel
from arpo.models.weights import ModelWeights, weight_digests
from arpo.protocols.encoding import PolicyTokenizer
from arpo.training.probe import TOLERANCE, check_agreement
from arpo.types import SamplingParams

PROMPT = [5, 6, 7, 8]
DTYPES = ["float32", "bfloat16", "float16"]
NOT_WHOLE = "a weight update did not reach the engine whole"


class Engine(TransformersEngine):
    """An engine with a model of its own; what is wrong with it is set from outside."""

    missed: str | None = None
    """Weight that updates do not reach."""
    ignored: tuple[int, ...] = ()
    """Which updates are ignored, counted from 0."""
    temperature_factor = 1.0
    id_offset = 0
    has_digests = True
    num_updates = 0

    async def update_weights(self, source: Any, version: int) -> None:
        self.num_updates += 1
        if self.num_updates - 1 not in self.ignored:
            await super().update_weights(iter(self._reached(source)), version)

    def _reached(self, source: Any) -> Iterator[tuple[str, Tensor]]:
        own = {name: p.detach().clone() for name, p in self._model.named_parameters()}
        for name, tensor in source:
            yield name, own[name] if name == self.missed else tensor

    async def weight_digests(self) -> Any:
        return await super().weight_digests() if self.has_digests else None

    async def prefill(self, parent: Any, token_ids: Any) -> Any:
        return await super().prefill(parent, [t + self.id_offset for t in token_ids])

    async def generate(self, prefix: Any, sampling: SamplingParams, **options: Any) -> Any:
        other = SamplingParams(temperature=sampling.temperature * self.temperature_factor, max_tokens=sampling.max_tokens)
        return await super().generate(prefix, other, **options)


@pytest.fixture
async def engine_of() -> AsyncIterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(model: PreTrainedModel, kind: type[TransformersEngine] = Engine) -> Any:
        engines.append(kind(model, decode=str, eos_ids=frozenset()))  # pyright: ignore[reportArgumentType]
        return engines[-1]

    yield make
    for engine in engines:
        await engine.aclose()


@pytest.fixture(params=[(dtype, adapter) for dtype in DTYPES for adapter in (False, True)], ids=lambda p: f"{p[0]}-{p[1]}")
def pair(request: pytest.FixtureRequest, make_model) -> tuple[PolicyModel, PreTrainedModel]:
    """A policy, with or without an adapter, and the same ordinary model for an engine."""
    dtype, has_adapter = request.param
    trained, own = make_model("llama", dtype=dtype), make_model("llama", dtype=dtype)
    if has_adapter:
        pytest.importorskip("peft")
        add_adapter(trained, LoraConfig(rank=2), seed=0)
    return PolicyModel(trained), own


def clones(model: PreTrainedModel) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(model: PreTrainedModel, before: list[Tensor]) -> bool:
    """To the bit."""
    return all(torch.equal(p, q) and p.dtype == q.dtype for p, q in zip(model.parameters(), before, strict=True))


async def test_a_sound_engine_passes_and_nothing_is_left_behind(pair, engine_of):
    policy, own = pair
    tolerance = TOLERANCE[str(own.dtype).removeprefix("torch.")]
    before, own_before = clones(policy.network), clones(own)
    shared, separate = engine_of(policy.network, TransformersEngine), engine_of(own)
    for engine in (shared, separate):
        assert await check_agreement(policy, engine, PROMPT) < tolerance
        assert engine.cache.num_used_slots == 0
        assert equal(policy.network, before)
    assert equal(own, own_before)
    assert separate.num_updates == 2


async def test_an_engine_without_digests_passes_by_effect(pair, engine_of):
    policy, own = pair
    before, engine = clones(policy.network), engine_of(own)
    engine.has_digests = False
    assert await check_agreement(policy, engine, PROMPT) < TOLERANCE[str(own.dtype).removeprefix("torch.")]
    assert equal(policy.network, before)


@pytest.mark.parametrize(("ignored", "reason"), [((0,), NOT_WHOLE), ((0, 1), NOT_WHOLE), ((1,), "a second weight update")])
@pytest.mark.parametrize("has_digests", [True, False])
async def test_an_engine_that_misses_an_update_is_refused(pair, engine_of, has_digests: bool, ignored, reason: str):
    policy, own = pair
    before, engine = clones(policy.network), engine_of(own)
    engine.has_digests, engine.ignored = has_digests, ignored
    with pytest.raises(EngineError, match=reason):
        await check_agreement(policy, engine, PROMPT)
    assert equal(policy.network, before)


async def test_an_engine_that_misses_one_weight_is_refused_and_the_weight_named(pair, engine_of):
    """Each weight in turn, norms and biases included."""
    policy, own = pair
    names = [name for name, _ in ModelWeights(policy.network)]
    assert names == [name for name, _ in own.named_parameters()]
    assert len(names) > 20
    engine = engine_of(own)
    for name in names:
        engine.missed = None
        await engine.update_weights(ModelWeights(policy.network), 0)
        engine.missed = name
        message = rf"1 of {len(names)} weights differ between engine and trainer, '{name}' first .*{NOT_WHOLE}"
        with pytest.raises(EngineError, match=message):
            await check_agreement(policy, engine, PROMPT)


async def test_an_engine_that_starts_with_one_other_bit_is_refused(pair, engine_of):
    policy, own = pair
    with torch.no_grad():
        norm = own.model.norm.weight
        norm[3] = torch.nextafter(norm[3].float(), torch.tensor(9.0)) if norm.dtype == torch.float32 else norm[3] * 1.01
    with pytest.raises(EngineError, match=r"1 of \d+ weights differ .*'model.norm.weight' first .*does not run the trainer's"):
        await check_agreement(policy, engine_of(own), PROMPT)


@pytest.mark.parametrize(("fault", "value"), [("temperature_factor", 0.6), ("id_offset", 1)])
async def test_an_engine_with_another_temperature_or_other_ids_is_refused(pair, engine_of, fault: str, value: float):
    policy, own = pair
    engine = engine_of(own)
    setattr(engine, fault, value)
    with pytest.raises(EngineError, match=r"differ by .* nats per sampled token, more than .* tokenizer or temperature"):
        await check_agreement(policy, engine, PROMPT)


@pytest.mark.parametrize(
    ("own_format", "format_of_engine"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float32", "float16")]
)
async def test_an_engine_in_another_number_format(make_model, engine_of, own_format: str, format_of_engine: str):
    """Refused where it is not what was configured; otherwise the weights are compared as it rounds them."""
    policy = PolicyModel(make_model(dtype=own_format))
    engine = engine_of(make_model(dtype=own_format).to(getattr(torch, format_of_engine)))
    with pytest.raises(EngineError, match=rf"\(engine: {format_of_engine} \[.*; trainer: {own_format} \["):
        await check_agreement(policy, engine, PROMPT)
    assert await check_agreement(policy, engine, PROMPT, format_of_engine) < 0.1
    engine.missed = "model.norm.weight"
    with pytest.raises(EngineError, match=rf"1 of .*'model.norm.weight' first .*{NOT_WHOLE}"):
        await check_agreement(policy, engine, PROMPT, format_of_engine)


async def test_an_engine_that_takes_the_weights_but_not_the_adapter_is_refused(make_model, engine_of):
    pytest.importorskip("peft")
    model, copy = make_model(), make_model()
    for each in (model, copy):
        add_adapter(each, LoraConfig(rank=2), seed=0)
    engine = engine_of(copy, TransformersEngine)

    async def copy_base_weights(*_: object) -> None:
        own = adapter_parameters(copy)
        copy.load_state_dict({name: p for name, p in model.state_dict().items() if name not in own}, strict=False)

    engine.update_weights = copy_base_weights
    with pytest.raises(EngineError, match=rf"weights differ .*{NOT_WHOLE}"):
        await check_agreement(PolicyModel(model), engine, PROMPT)


async def test_weights_that_are_not_numbers_are_named(make_model, engine_of):
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(EngineError, match="its weights hold NaN"):
        await check_agreement(PolicyModel(model), engine_of(make_model()), PROMPT)


async def test_an_engine_reads_weights_from_a_folder(policy: Path):
    own = load_policy(policy)
    kept = clones(own)
    with torch.no_grad():
        own.get_input_embeddings().weight.mul_(1.05)  # pyright: ignore[reportCallIssue]
    engine = TransformersEngine(own, decode=PolicyTokenizer.load(policy).decode, eos_ids=frozenset())
    await engine.update_weights(policy, 7)
    assert engine.version == 7
    assert equal(own, kept)
    await engine.aclose()


@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
def test_a_digest_shows_every_bit_the_place_the_shape_and_the_format(dtype: str):
    def digest(tensor: Tensor) -> str:
        return weight_digests([("w", tensor)])["w"]

    weight = torch.linspace(-1, 1, 12).to(getattr(torch, dtype)).reshape(3, 4)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    seen = {digest(weight)}
    for bit in range(weight.element_size() * 8 - 1):
        other = weight.clone()
        other.view(integers)[1, 2] ^= 1 << bit
        seen.add(digest(other))
    assert len(seen) == weight.element_size() * 8
    others = [weight.flip(0), weight.reshape(4, 3), weight.mT]
    assert len(seen | {digest(other) for other in others}) == len(seen) + 3
    assert digest(weight.mT.contiguous().mT) == digest(weight), "the layout in memory does not count"
    assert digest(weight).startswith(f"{dtype} [3, 4] ")
    assert weight_digests([("w", weight)], torch.bfloat16)["w"] == digest(weight.bfloat16())
