"""What every inference engine keeps: one suite; what is said of prefixes runs for all, and all of it for those with a model.

vLLM is tested by `make test-vllm`, the others here.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from arpo.batching.packing import PackNode, pack_trees
from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine
from arpo.inference.config import OpenAIEngineConfig, VllmEngineConfig
from arpo.inference.openai_engine import OpenAIEngine
from arpo.inference.scripted import ScriptedEngine
from arpo.inference.transformers_engine import TransformersEngine
from arpo.lab.bias.decision_tree import PROMPT as TABLE_PROMPT
from arpo.lab.bias.decision_tree import DecisionTree
from arpo.lab.bias.table_agent import TableEngine
from arpo.models.attention import forward_hidden, head_logits, use_layout_attention
from arpo.models.logprobs import hidden_to_logprobs
from arpo.models.policy import PolicyModel
from arpo.models.vocabulary import mask_rows_without_token
from arpo.models.weights import ModelWeights
from arpo.protocols.text_tokenizer import TextTokenizer
from arpo.training.probe import check_agreement
from arpo.types import Completion, SamplingParams, StopReason

EOS = 0
PROMPT = [5 + i % 80 for i in range(200)]
SEEN = [40 + i % 50 for i in range(150)]
NO_TOKEN = (3, 93, 94, 95, 96)
"""Rows of the models' vocabulary that no token has."""
ATOL = 1e-4


def decode(token_ids: Sequence[int]) -> str:
    """Token 17 is the text `<17>`: part of one token, or parts of several, can be a stop string."""
    return "".join(f"<{t}>" for t in token_ids)


@dataclass(kw_only=True)
class Subject:
    """An engine under test with the model it samples for."""

    engine: Any
    prompt: Sequence[int] = tuple(PROMPT)
    model: Any = None
    directory: Path = Path()
    recomputed: int = 0
    """Tokens at the end of a prefix each completion that follows may compute again."""

    def num_prefilled(self) -> int:
        """Tokens computed since the start; the in-process engine counts sampled ones too."""
        return getattr(self.engine, "num_prefilled_tokens", None) or getattr(self.engine, "num_computed_tokens", 0)


def _make_model(seed: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=97, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        intermediate_size=64, max_position_embeddings=1024, initializer_range=0.2, tie_word_embeddings=False,
        eos_token_id=EOS, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config).eval()
    torch.nn.init.zeros_(model.lm_head.weight[EOS])  # logit 0: about one token in 300
    return model


def _mask(model: PreTrainedModel, directory: Path) -> None:
    """Write a tokenizer without the ids of `NO_TOKEN` into the model's directory."""
    vocabulary = {f"<{i}>": i for i in range(97) if i not in NO_TOKEN}
    Tokenizer(WordLevel(vocabulary, "<0>")).save(str(directory / "tokenizer.json"))
    mask_rows_without_token(model, directory)


class Letters:
    """One token per character."""

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def encode_markup(self, text: str) -> list[int]:
        return list(map(ord, text))


def _without_model(kind: str) -> Subject:
    if kind == "scripted":
        return Subject(engine=ScriptedEngine(lambda text: "script", cast(Any, Letters())), prompt=[65, 66, 67])
    if kind == "table":
        tree = DecisionTree.of_study()
        return Subject(
            engine=TableEngine(tree, lambda probabilities, seed, position: 0), prompt=[tree.alphabet.index(TABLE_PROMPT)]
        )
    config = OpenAIEngineConfig(base_url="http://127.0.0.1:1/v1", model="m", api="chat")
    return Subject(engine=OpenAIEngine(config, TextTokenizer()), prompt=[65, 66, 67])


MODELS = ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)]


@pytest.fixture(scope="module", params=MODELS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    if request.param in ("scripted", "table", "openai"):
        yield _without_model(request.param)
        return
    model, directory = _make_model(0), tmp_path_factory.mktemp("policy")
    model.save_pretrained(directory)
    _mask(model, directory)
    use_layout_attention(model)
    if request.param == "transformers":
        engine = TransformersEngine(model, decode=decode, eos_ids=frozenset({EOS}))
        yield Subject(engine=engine, model=model, directory=directory)
        return
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from arpo.inference.vllm_engine import VllmEngine

    options = VllmEngineConfig(gpu_memory_utilization=0.1, enforce_eager=True)
    engine = VllmEngine(directory, options, dtype="float32", max_tokens=1024, decode=decode, eos_ids=frozenset({EOS}))
    yield Subject(engine=engine, model=model, directory=directory, recomputed=engine.block_size)
    asyncio.run(engine.aclose())


@pytest.fixture
def engine(subject: Subject) -> Iterator[InferenceEngine[Any]]:
    """The engine; every test gives back what it took."""
    yield subject.engine
    assert num_held(subject.engine) == 0


def for_vllm(test: Any) -> Any:
    """A test of what only vLLM does."""
    return pytest.mark.vllm(pytest.mark.parametrize("subject", ["vllm"], indirect=True, scope="module")(test))


of_every_engine = pytest.mark.parametrize("subject", [*MODELS, "scripted", "table", "openai"], indirect=True, scope="module")
of_every_trainers_engine = pytest.mark.parametrize("subject", [*MODELS, "scripted", "table"], indirect=True, scope="module")


def source_of(subject: Subject) -> Any:
    """The weights of the subject's model; nothing where there is no model."""
    return ModelWeights(subject.model) if subject.model else ()


async def ignore_update(source: object, version: int) -> None:
    """In place of `update_weights`."""


def num_held(engine: Any) -> int:
    return engine.num_held_prefixes if hasattr(engine, "num_held_prefixes") else engine.cache.num_used_slots


async def sample(
    engine: InferenceEngine[Any], n: int = 12, *, prompt: Sequence[int] = PROMPT, seed: int = 1, **more: Any
) -> Completion:
    """A completion of a prompt; every prefix is given back."""
    options = {key: more.pop(key) for key in ("temperature", "entropy_top_k") if key in more}
    prefix = await engine.prefill(None, prompt)
    completion, longer = await engine.generate(prefix, SamplingParams(max_tokens=n, **options), seed=seed, **more)
    prefix.release()
    longer.release()
    return completion


def assert_is_the_models(model: PreTrainedModel, before: Sequence[int], drawn: Completion, temperature: float) -> None:
    """The trainer's own log-probs and entropies, packed as it packs them."""
    sampled = drawn.token_ids
    pack = pack_trees([[PackNode(None, [*before, *sampled], [False] * len(before) + [True] * len(sampled))]])
    with torch.no_grad():
        hidden = forward_hidden(model, pack.token_ids, pack.positions, pack.layout)
        logprobs, entropies = hidden_to_logprobs(model, hidden[pack.predictors], pack.targets, temperature)
    torch.testing.assert_close(torch.tensor(drawn.logprobs), logprobs, rtol=0, atol=ATOL)
    torch.testing.assert_close(torch.tensor(drawn.entropies), entropies, rtol=0, atol=ATOL)


@torch.no_grad()
def next_logits(model: PreTrainedModel, token_ids: Sequence[int]) -> torch.Tensor:
    pack = pack_trees([[PackNode(None, [*token_ids, 1], [False] * len(token_ids) + [True])]])
    return head_logits(model, forward_hidden(model, pack.token_ids, pack.positions, pack.layout)[pack.predictors])


async def test_greedy_is_the_largest_logit(subject: Subject, engine) -> None:
    completion = await sample(engine, 6, temperature=0)
    ids = list(PROMPT)
    for token in completion.token_ids:
        assert token == int(next_logits(subject.model, ids).argmax())
        ids.append(token)
    assert_is_the_models(subject.model, PROMPT, completion, 1.0)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
async def test_log_probs_and_entropies_are_the_trainers(subject: Subject, engine, temperature: float) -> None:
    for seed in range(4):
        completion = await sample(engine, 20, seed=seed, temperature=temperature)
        assert_is_the_models(subject.model, PROMPT, completion, temperature)


async def test_entropy_over_the_k_most_likely_tokens(subject: Subject, engine) -> None:
    exact, top = [await sample(engine, 8, entropy_top_k=k) for k in (None, 5)]
    assert top.token_ids == exact.token_ids
    ids = list(PROMPT)
    for token, entropy, whole in zip(top.token_ids, top.entropies, exact.entropies, strict=True):
        log_p = next_logits(subject.model, ids).log_softmax(-1).topk(5).values
        assert entropy == pytest.approx(float(-(log_p.exp() * log_p).sum()), abs=ATOL)
        assert entropy < whole
        ids.append(token)


async def test_draws_are_those_of_the_in_process_engine(subject: Subject, engine) -> None:
    reference = TransformersEngine(subject.model, decode=decode, eos_ids=frozenset({EOS}))
    for seed in (3, 2**64 - 1):
        assert (await sample(engine, 30, seed=seed)).token_ids == (await sample(reference, 30, seed=seed)).token_ids
    await reference.aclose()


async def test_no_row_without_a_token_is_sampled(engine) -> None:
    found = await asyncio.gather(*(sample(engine, 40, seed=s, temperature=3.0) for s in range(60)))
    counts = torch.bincount(torch.tensor([token for c in found for token in c.token_ids]), minlength=97)
    assert not counts[list(NO_TOKEN)].any()
    assert (counts > 0).sum() > 80, "nearly every token is drawn"


@pytest.mark.parametrize("cuts", [(5, 7), (1, 11), (3, 4, 5)])
async def test_a_paused_completion_is_one_longer_completion(engine, cuts: tuple[int, ...]) -> None:
    whole = await sample(engine, 12, seed=5)
    handles = [await engine.prefill(None, PROMPT)]
    tokens: list[int] = []
    logprobs: list[float] = []
    for n in cuts:
        part, longer = await engine.generate(handles[-1], SamplingParams(max_tokens=n), seed=5, position=len(tokens))
        assert part.stop_reason is StopReason.LENGTH
        assert longer.num_tokens == len(PROMPT) + len(tokens) + n
        handles.append(longer)
        tokens, logprobs = tokens + part.token_ids, logprobs + part.logprobs
    for handle in handles:
        handle.release()
    assert tokens == whole.token_ids
    assert logprobs == pytest.approx(whole.logprobs, abs=ATOL)


async def test_a_fork_continues_as_a_fresh_prefix_does(subject: Subject, engine) -> None:
    root = await engine.prefill(None, PROMPT)
    drawn, longer = await engine.generate(root, SamplingParams(max_tokens=6), seed=1)
    observed = await engine.prefill(longer, SEEN)
    fork = observed.fork()
    before = [*PROMPT, *drawn.token_ids, *SEEN]
    (original, first), (forked, second) = await asyncio.gather(
        engine.generate(observed, SamplingParams(max_tokens=9), seed=2),
        engine.generate(fork, SamplingParams(max_tokens=9), seed=3),
    )
    for handle in (root, longer, observed, fork, first, second):
        handle.release()
    for seed, known in ((2, original), (3, forked)):
        assert (await sample(engine, 9, prompt=before, seed=seed)).token_ids == known.token_ids
        assert_is_the_models(subject.model, before, known, 1.0)


async def test_a_completion_cut_short_goes_on_as_if_it_had_stopped_there(engine) -> None:
    root = await engine.prefill(None, PROMPT)
    drawn, longer = await engine.generate(root, SamplingParams(max_tokens=8), seed=1)
    cut = longer.truncate(len(PROMPT) + 5, drawn.token_ids[:5])
    again, ended = await engine.generate(cut, SamplingParams(max_tokens=3), seed=1, position=5)
    for handle in (root, longer, cut, ended):
        handle.release()
    assert again.token_ids == drawn.token_ids[5:]
    assert ended.num_tokens == len(PROMPT) + 8


async def test_a_draw_does_not_depend_on_what_else_runs(engine) -> None:
    alone = await sample(engine, 15, seed=5)
    others = [sample(engine, 3 + s, seed=s, temperature=0.5 + s / 10, prompt=PROMPT[: 50 + 9 * s]) for s in range(12)]
    crowd = await asyncio.gather(*others[:6], sample(engine, 15, seed=5), *others[6:])
    assert crowd[6].token_ids == alone.token_ids
    assert crowd[6].logprobs == pytest.approx(alone.logprobs, abs=ATOL)
    assert (await sample(engine, 15, seed=6)).token_ids != alone.token_ids


async def test_a_stop_string_that_spans_tokens_and_is_less_than_they_carry(engine) -> None:
    whole = await sample(engine, 12)
    a, b = whole.token_ids[4:6]
    stop = f"{a}><{b}"  # begins inside one token, ends inside the next
    end = decode(whole.token_ids).index(stop)
    count = next(n for n in range(1, 13) if len(decode(whole.token_ids[:n])) >= end + len(stop))
    completion = await sample(engine, 12, stop=("no such text", stop))
    assert completion.stop_reason is StopReason.STOP_STRING
    assert completion.token_ids == whole.token_ids[:count]
    assert len(completion.logprobs) == len(completion.entropies) == count


@pytest.mark.parametrize("cut", [1, 4, 5])
async def test_a_stop_string_may_span_a_pause_but_not_the_prefix(engine, cut: int) -> None:
    whole = await sample(engine, 12)
    stop = decode(whole.token_ids[3:6])
    before = decode([PROMPT[-1], whole.token_ids[0]])
    prefix = await engine.prefill(None, PROMPT)
    first, middle = await engine.generate(prefix, SamplingParams(max_tokens=cut), seed=1, stop=(stop, before))
    second, last = await engine.generate(middle, SamplingParams(max_tokens=9), seed=1, position=cut, stop=(stop, before))
    for handle in (prefix, middle, last):
        handle.release()
    assert (first.stop_reason, second.stop_reason) == (StopReason.LENGTH, StopReason.STOP_STRING)
    assert first.token_ids + second.token_ids == whole.token_ids[:6]


async def test_end_of_sequence_is_kept_and_ends_the_completion(subject: Subject, engine) -> None:
    found = await asyncio.gather(*(sample(engine, 40, seed=s, temperature=1.5) for s in range(120)))
    ended = [c for c in found if c.stop_reason is StopReason.EOS]
    assert ended, "some of 120 completions of 40 tokens end"
    assert all(c.token_ids.index(EOS) == len(c.token_ids) - 1 for c in ended)
    assert all(EOS not in c.token_ids for c in found if c.stop_reason is StopReason.LENGTH)
    again = await sample(engine, 40, seed=found.index(ended[0]), temperature=1.5, stop=(decode([EOS]),))
    assert again.stop_reason is StopReason.EOS, "it wins over a stop string"


@of_every_engine
async def test_a_released_prefix_is_refused(subject: Subject, engine) -> None:
    prefix = await engine.prefill(None, subject.prompt)
    fork = prefix.fork()
    prefix.release()
    for use in (prefix.release, prefix.fork, lambda: prefix.truncate(1, subject.prompt[:1])):
        with pytest.raises(EngineError, match=rf"released prefix of {len(subject.prompt)} tokens"):
            use()
    with pytest.raises(EngineError, match=r"released prefix"):
        await engine.generate(prefix, SamplingParams(max_tokens=1), seed=1)
    with pytest.raises(EngineError, match=r"released prefix"):
        await engine.prefill(prefix, [1])
    longer = await engine.prefill(fork, [1])
    assert longer.token_ids == (*subject.prompt, 1), "the fork stays valid"
    fork.release()
    longer.release()


@of_every_engine
async def test_a_prefill_of_nothing_is_refused(engine) -> None:
    with pytest.raises(EngineError, match=r"no tokens"):
        await engine.prefill(None, [])


@of_every_engine
@pytest.mark.parametrize(
    ("num_tokens", "tail"), [(2, []), (0, []), (0, [8]), (4, [9]), (5, [9]), (3, [7]), (2, [6, 7, 8]), (2, [8, 9])]
)
async def test_what_cuts_no_completion_is_refused(engine, num_tokens: int, tail: list[int]) -> None:
    """Of a prefix 6, 7, 8, 9: an empty tail, nothing kept, nothing cut, and tails that are not the kept tokens' last ones."""
    prefix = await engine.prefill(None, [6, 7, 8, 9])
    with pytest.raises(
        EngineError, match=f"a prefix of 4 tokens cannot be cut to {num_tokens} tokens that end with the {len(tail)}"
    ):
        prefix.truncate(num_tokens, tail)
    prefix.release()


@of_every_trainers_engine
async def test_a_cut_prefix_holds_the_tokens_that_were_kept(engine) -> None:
    prefix = await engine.prefill(None, [6, 7, 8, 9])
    cut = prefix.truncate(3, [7, 8])
    again = cut.truncate(2, [7])
    assert (prefix.token_ids, cut.token_ids, again.token_ids) == ((6, 7, 8, 9), (6, 7, 8), (6, 7))
    for handle in (prefix, cut, again):
        handle.release()


@of_every_trainers_engine
async def test_a_completion_says_which_version_of_the_weights_drew_it(subject: Subject, engine) -> None:
    for version in (3, 0):
        await engine.update_weights(source_of(subject), version)
        assert (await sample(engine, 2, prompt=subject.prompt)).policy_version == version


async def test_cancelling_leaves_nothing_behind_and_others_alone(engine) -> None:
    prefix = await engine.prefill(None, PROMPT)
    tasks = [asyncio.create_task(engine.generate(prefix, SamplingParams(max_tokens=300), seed=s)) for s in range(4)]
    other = asyncio.create_task(sample(engine, 20, seed=9))
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await other).token_ids == (await sample(engine, 20, seed=9)).token_ids
    for task in tasks:
        if not task.cancelled():
            task.result()[1].release()
    prefix.release()


async def test_a_branch_computes_nothing_again_and_an_observation_is_computed_once(subject: Subject, engine) -> None:
    prompt = [7 + (3 * i) % 90 for i in range(500)]  # no other test's
    observation = [9 + (5 * i) % 80 for i in range(300)]
    one = SamplingParams(max_tokens=1)
    counts = [subject.num_prefilled()]
    handles = [await engine.prefill(None, prompt)]
    handles += [p for _, p in await asyncio.gather(*(engine.generate(handles[0], one, seed=s) for s in range(6)))]
    counts.append(subject.num_prefilled())
    handles.append(await engine.prefill(handles[1], observation))
    handles.append((await engine.generate(handles[-1], one, seed=6))[1])
    counts.append(subject.num_prefilled())
    branches = await asyncio.gather(*(engine.generate(handles[-2], one, seed=s) for s in range(7, 11)))
    handles += [p for _, p in branches]
    counts.append(subject.num_prefilled())
    for handle in handles:
        handle.release()
    slack = subject.recomputed
    roots, observed, branched = (after - before for before, after in pairwise(counts))
    assert 500 <= roots <= 500 + 6 * slack
    assert 301 <= observed <= 301 + slack  # and the token sampled before it
    assert branched <= 4 * slack


@of_every_trainers_engine
async def test_a_weight_update_is_refused_while_prefixes_are_held(subject: Subject, engine) -> None:
    held = [await engine.prefill(None, subject.prompt)]
    held.append(held[0].fork())
    for handle in held:
        with pytest.raises(EngineError, match=r"\d prefixes of the former weights are held"):
            await engine.update_weights(source_of(subject), 1)
        assert engine.version == 0
        handle.release()
    await engine.update_weights(source_of(subject), 1)
    assert engine.version == 1
    await engine.update_weights(source_of(subject), 0)


async def test_a_weight_update_is_effective_and_can_be_undone(subject: Subject, engine) -> None:
    before = await sample(engine, 12)
    own = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    try:
        subject.model.load_state_dict(_make_model(7).state_dict())
        await engine.update_weights(ModelWeights(subject.model), 1)
        assert engine.version == 1
        updated = await sample(engine, 12)
        assert updated.token_ids != before.token_ids
        assert_is_the_models(subject.model, PROMPT, updated, 1.0)
    finally:
        subject.model.load_state_dict(own)
        await engine.update_weights(ModelWeights(subject.model), 0)
    assert (await sample(engine, 12)).token_ids == before.token_ids


@pytest.mark.parametrize("temperature", [0.7, 1.0])
async def test_the_start_up_probe_passes(subject: Subject, engine, temperature: float) -> None:
    before = [p.clone() for p in subject.model.parameters()]
    assert await check_agreement(PolicyModel(subject.model, temperature), engine, PROMPT) < ATOL
    assert all(torch.equal(p, q) for p, q in zip(before, subject.model.parameters(), strict=True))


async def test_the_weights_of_another_model_are_taken_whole(subject: Subject, engine, tmp_path: Path) -> None:
    """The engine's own model, where it shares one, gets them too: it has no others."""
    kept = {name: tensor.clone() for name, tensor in ModelWeights(subject.model)}
    other = use_layout_attention(_make_model(7))
    _mask(other, tmp_path)
    await engine.update_weights(ModelWeights(other), 1)
    assert_is_the_models(other, PROMPT, await sample(engine, 12), 1.0)
    await engine.update_weights(iter(kept.items()), 0)
    assert_is_the_models(subject.model, PROMPT, await sample(engine, 12), 1.0)


@for_vllm
async def test_vllm_reads_weights_from_a_directory(subject: Subject, engine, tmp_path: Path) -> None:
    other = _make_model(7)
    other.save_pretrained(tmp_path)
    _mask(other, tmp_path)
    use_layout_attention(other)
    await engine.update_weights(tmp_path, 3)
    assert_is_the_models(other, PROMPT, await sample(engine, 12), 1.0)
    await engine.update_weights(subject.directory, 4)
    assert_is_the_models(subject.model, PROMPT, await sample(engine, 12), 1.0)


@for_vllm
async def test_vllm_refuses_what_it_cannot_keep(engine) -> None:
    with pytest.raises(EngineError, match=r"rollout.deterministic = true"):
        engine.participate()
    prefix = await engine.prefill(None, PROMPT)
    with pytest.raises(EngineError, match=r"exceed the 1024 tokens"):
        await engine.generate(prefix, SamplingParams(max_tokens=900), seed=1)
    prefix.release()


@for_vllm
async def test_the_probe_notices_an_engine_that_ignores_updates(
    subject: Subject, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "update_weights", ignore_update)
    with pytest.raises(EngineError, match=r"a weight update did not reach the engine"):
        await check_agreement(PolicyModel(subject.model), engine, PROMPT)
