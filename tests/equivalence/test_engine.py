"""The engine's log-probs, entropies and draws are those of the model's stock forward pass, however a sequence came about.

In float64, with norms in the model's own format (see test_tree_training), the tolerance is 1e-10 nats; in float32 with the
stock norms it is 1e-4 nats.
"""

import asyncio
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from arpo.inference import transformers_engine
from arpo.inference.cached_prefix import CachedPrefix
from arpo.inference.sampling import stream_uniforms
from arpo.inference.transformers_engine import TransformersEngine
from arpo.types import Completion, SamplingParams

PROMPT = [5, 6, 7, 8, 9, 10, 11]
SEEN = [40, 41, 42]


def make_engine(model: PreTrainedModel) -> TransformersEngine:
    return TransformersEngine(model, decode=lambda ids: "".join(chr(33 + t) for t in ids), eos_ids=frozenset())


@torch.no_grad()
def reference(model: PreTrainedModel, token_ids: Sequence[int], start: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of the tokens from `start` on, by transformers' own attention and one pass."""
    model.set_attn_implementation("sdpa")
    logits = model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0, start - 1 : -1]
    model.set_attn_implementation("arpo")
    log_p = (logits / temperature).log_softmax(-1)
    entropies = torch.distributions.Categorical(logits=log_p).entropy()
    return log_p.gather(-1, torch.tensor(token_ids[start:]).unsqueeze(-1)).squeeze(-1), entropies


def assert_agrees(model: PreTrainedModel, before: Sequence[int], drawn: Completion, temperature: float, atol: float) -> None:
    logprobs, entropies = reference(model, [*before, *drawn.token_ids], len(before), temperature)
    for found, expected in ((drawn.logprobs, logprobs), (drawn.entropies, entropies)):
        torch.testing.assert_close(torch.tensor(found, dtype=expected.dtype), expected, rtol=0, atol=atol)


async def grow(engine: TransformersEngine, temperature: float) -> list[tuple[list[int], Completion]]:
    """(tokens before, completion) of a path that pauses, observes and forks twice, its branches growing at the same time."""

    async def draw(prefix: CachedPrefix, n: int, seed: int, position: int = 0) -> tuple[Completion, CachedPrefix]:
        sampling = SamplingParams(temperature=temperature, max_tokens=n)
        return await engine.generate(prefix, sampling, seed=seed, position=position)

    found: list[tuple[list[int], Completion]] = []
    root = await engine.prefill(None, PROMPT)
    first, paused = await draw(root, 4, 1)
    rest, ended = await draw(paused, 6, 1, position=4)
    found += [(PROMPT, first), ([*PROMPT, *first.token_ids], rest)]
    before = [*PROMPT, *first.token_ids, *rest.token_ids, *SEEN]
    observed = await engine.prefill(ended, SEEN)
    window, original = await draw(observed, 3, 2)
    branches = await asyncio.gather(
        draw(original, 5, 2, position=3), *(draw(observed, 4, seed) for seed in (3, 4, 5)), draw(root, 5, 6)
    )
    found.append((before, window))
    prefixes = [[*before, *window.token_ids], before, before, before, PROMPT]
    found += [(ids, completion) for ids, (completion, _) in zip(prefixes, branches, strict=True)]
    again = await engine.prefill(branches[1][1], SEEN[::-1])
    deep = await asyncio.gather(draw(again, 5, 7), draw(again, 5, 8), draw(branches[1][1], 3, 9))
    before = [*before, *branches[1][0].token_ids]
    found += [(ids, c) for ids, (c, _) in zip([[*before, *SEEN[::-1]]] * 2 + [before], deep, strict=True)]
    for handle in (root, paused, ended, observed, original, again, *(p for _, p in (*branches, *deep))):
        handle.release()
    engine.cache.check_integrity()
    assert engine.cache.num_used_slots == 0
    return found


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
async def test_log_probs_and_entropies_float64(family: str, kv_heads: int, make_model, in_own_format) -> None:
    model = in_own_format(make_model(family, kv_heads=kv_heads, dtype="float64"))
    for before, completion in await grow(make_engine(model), 0.8):
        assert_agrees(model, before, completion, 0.8, atol=1e-10)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
async def test_log_probs_and_entropies_float32_with_stock_norms(family: str, make_model) -> None:
    model = make_model(family)
    for before, completion in await grow(make_engine(model), 1.0):
        assert_agrees(model, before, completion, 1.0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-4), ("bfloat16", 0.1)])
@pytest.mark.parametrize("pass_tokens", [5, 4096])
async def test_nine_heads_of_size_64_over_three_of_the_keys(dtype: str, atol: float, pass_tokens: int, monkeypatch) -> None:
    """The heads of a 135 M model of the Llama form. The reference is float32 with the same weights; bfloat16 has 8 bits, and a
    log-prob of some 5 nats, the sum of logits of that size, is good to about 5 / 2^8 = 0.02 per rounding."""
    config = LlamaConfig(
        vocab_size=256, hidden_size=576, num_hidden_layers=2, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
        intermediate_size=96, initializer_range=0.05, tie_word_embeddings=True, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    monkeypatch.setitem(transformers_engine._PASS_TOKENS, "cpu", pass_tokens)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()
    exact = LlamaForCausalLM(config).eval()
    exact.load_state_dict(model.state_dict())
    for before, completion in await grow(make_engine(model), 1.0):
        assert_agrees(exact, before, completion, 1.0, atol=atol)


async def test_a_batch_in_several_passes_gives_the_same(make_model, in_own_format, monkeypatch) -> None:
    """Six requests of 2 to 7 waiting tokens, 27 in all, in passes of at most 8: (2, 3), 4, 5, 6, 7 are five passes, not one."""
    found = []
    for pass_tokens, num_passes in ((4096, 1), (8, 5)):
        monkeypatch.setitem(transformers_engine._PASS_TOKENS, "cpu", pass_tokens)
        engine = make_engine(in_own_format(make_model(dtype="float64")))
        handles = await asyncio.gather(*(engine.prefill(None, range(5, 5 + n)) for n in (2, 3, 4, 5, 6, 7)))
        assert engine.num_computed_tokens == 27
        assert engine.num_forward_passes == num_passes
        drawn = await asyncio.gather(*(engine.generate(h, SamplingParams(max_tokens=9), seed=3) for h in handles))
        found.append([completion for completion, _ in drawn])
    for whole, parts in zip(*found, strict=True):
        assert whole.token_ids == parts.token_ids
        torch.testing.assert_close(torch.tensor(whole.logprobs), torch.tensor(parts.logprobs), rtol=0, atol=1e-10)


async def test_draws_are_the_inverse_of_the_model_s_own_distribution(make_model, in_own_format) -> None:
    """From the stock forward pass and the published stream of numbers, without the engine's code in between."""
    model = in_own_format(make_model(dtype="float64"))
    engine = make_engine(model)
    prefix = await engine.prefill(None, PROMPT)
    completion, _ = await engine.generate(prefix, SamplingParams(max_tokens=12), seed=77)
    uniforms = stream_uniforms(torch.full((12,), 77).numpy(), torch.arange(12).numpy())
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        ids = torch.tensor([[*PROMPT, *completion.token_ids]])
        cumulative = model(input_ids=ids).logits[0, len(PROMPT) - 1 : -1].softmax(-1).cumsum(-1)
    assert [int((row <= u).sum()) for row, u in zip(cumulative, uniforms, strict=True)] == completion.token_ids


@pytest.mark.parametrize("cuts", [(5, 7), (1, 11), (11, 1), (3, 4, 5), (1,) * 12])
async def test_a_paused_completion_is_one_longer_completion(cuts: tuple[int, ...], make_model) -> None:
    engine = make_engine(make_model())
    prefix = await engine.prefill(None, PROMPT)
    whole, _ = await engine.generate(prefix, SamplingParams(max_tokens=12), seed=5)
    handle, tokens, logprobs, entropies = prefix, [], [], []
    for n in cuts:
        part, handle = await engine.generate(handle, SamplingParams(max_tokens=n), seed=5, position=len(tokens))
        tokens, logprobs, entropies = tokens + part.token_ids, logprobs + part.logprobs, entropies + part.entropies
    assert (tokens, logprobs, entropies) == (whole.token_ids, whole.logprobs, whole.entropies)


async def test_a_draw_does_not_depend_on_what_else_is_in_the_batch(make_model, in_own_format) -> None:
    model = in_own_format(make_model(dtype="float64"))
    engine = make_engine(model)
    prefix = await engine.prefill(None, PROMPT)
    alone, _ = await engine.generate(prefix, SamplingParams(max_tokens=15), seed=5)
    others = [engine.generate(prefix, SamplingParams(max_tokens=3 + s), seed=s) for s in range(20)]
    crowd = await asyncio.gather(*others[:10], engine.generate(prefix, SamplingParams(max_tokens=15), seed=5), *others[10:])
    crowded = crowd[10][0]
    assert crowded.token_ids == alone.token_ids
    torch.testing.assert_close(torch.tensor(crowded.logprobs), torch.tensor(alone.logprobs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
async def test_an_engine_that_has_worked_before_draws_as_a_new_one(dtype: str, make_model) -> None:
    """Bit for bit: a resumed run has a new engine, an uninterrupted one the same as before."""
    model = make_model(dtype=dtype)
    used = make_engine(model)
    handles = await asyncio.gather(*(used.prefill(None, [*PROMPT, i, i]) for i in range(40)))
    longer = await asyncio.gather(*(used.generate(h, SamplingParams(max_tokens=70), seed=1) for h in handles))
    assert used.cache.num_slots > 16
    for handle in (*handles, *(p for _, p in longer)):
        handle.release()
    assert await grow(used, 1.0) == await grow(make_engine(model), 1.0)


async def test_a_fork_is_a_fresh_prefill(make_model, in_own_format) -> None:
    engine = make_engine(in_own_format(make_model(dtype="float64")))
    root = await engine.prefill(None, PROMPT)
    drawn, longer = await engine.generate(root, SamplingParams(max_tokens=6), seed=1)
    observed = await engine.prefill(longer, SEEN)
    original, _ = await engine.generate(observed, SamplingParams(max_tokens=9), seed=2)
    forked, _ = await engine.generate(observed.fork(), SamplingParams(max_tokens=9), seed=3)
    fresh = await engine.prefill(None, [*PROMPT, *drawn.token_ids, *SEEN])
    for seed, known in ((2, original), (3, forked)):
        completion, _ = await engine.generate(fresh, SamplingParams(max_tokens=9), seed=seed)
        assert completion.token_ids == known.token_ids
        torch.testing.assert_close(torch.tensor(completion.logprobs), torch.tensor(known.logprobs), rtol=0, atol=1e-10)


async def test_nothing_is_computed_twice(make_model) -> None:
    engine = make_engine(make_model())
    counts = []
    root = await engine.prefill(None, PROMPT)
    counts.append(engine.num_computed_tokens)  # the prompt's 7
    _, longer = await engine.generate(root, SamplingParams(max_tokens=5), seed=1)
    counts.append(engine.num_computed_tokens)  # 4 of the 5: the last one waits for what follows it
    observed = await engine.prefill(longer, SEEN)
    counts.append(engine.num_computed_tokens)  # that one and the observation's 3
    branches = await asyncio.gather(*(engine.generate(observed, SamplingParams(max_tokens=5), seed=s) for s in (2, 3, 4)))
    counts.append(engine.num_computed_tokens)  # three branches of 4 each, nothing before them
    copied = engine.cache.num_copied_tokens  # two of them had to leave the slot: 7 + 5 + 3 positions each
    top_up = engine.generate(root, SamplingParams(max_tokens=1), seed=5)
    await asyncio.gather(*(engine.prefill(p, [1]) for _, p in branches), top_up)
    counts.append(engine.num_computed_tokens)  # each branch's last token and the new one; nothing for the top-up's first draw
    assert counts == [7, 11, 15, 27, 33]
    assert copied == 30
