"""A prefix cut inside a completion goes on as if it had ended there, and computes one token again at most."""

import numpy as np
import pytest
import torch

from arpo.inference.sampling import draw, top_k_entropy
from arpo.inference.scripted import ScriptedEngine
from arpo.inference.transformers_engine import TransformersEngine
from arpo.types import SamplingParams

PROMPT = list(range(5, 16))


def make_engine(make_model) -> TransformersEngine:
    return TransformersEngine(make_model(), decode=lambda ids: "".join(chr(97 + i) for i in ids), eos_ids=frozenset())


async def test_a_cut_prefix_goes_on_as_the_whole_did(make_model) -> None:
    """With the seed and position of the original, the tokens after the cut are the original's own."""
    engine = make_engine(make_model)
    prompt = await engine.prefill(None, PROMPT)
    whole, end = await engine.generate(prompt, SamplingParams(max_tokens=9), seed=3)
    computed = engine.num_computed_tokens
    handles = []
    for kept in (1, 4, 8):
        cut = end.truncate(len(PROMPT) + kept, whole.token_ids[:kept])
        assert cut.num_tokens == len(PROMPT) + kept
        rest, longer = await engine.generate(cut, SamplingParams(max_tokens=9 - kept), seed=3, position=kept)
        assert rest.token_ids == whole.token_ids[kept:]
        assert rest.logprobs == pytest.approx(whole.logprobs[kept:], abs=1e-5)
        assert rest.entropies == pytest.approx(whole.entropies[kept:], abs=1e-5)
        # the token before the cut once more, and each token drawn but the last
        assert engine.num_computed_tokens - computed == 9 - kept
        computed = engine.num_computed_tokens
        handles += [cut, longer]
    again, after = await engine.generate(prompt, SamplingParams(max_tokens=9), seed=3)  # the original is as it was
    assert again.token_ids == whole.token_ids
    for handle in (*handles, prompt, end, after):
        handle.release()
    engine.cache.check_integrity()
    assert engine.cache.num_used_slots == 0
    await engine.aclose()


async def test_a_stop_string_may_begin_before_the_cut(make_model) -> None:
    engine = make_engine(make_model)
    prompt = await engine.prefill(None, PROMPT)
    whole, end = await engine.generate(prompt, SamplingParams(max_tokens=6), seed=5)
    stop = "".join(chr(97 + t) for t in whole.token_ids[1:4])
    cut = end.truncate(len(PROMPT) + 3, whole.token_ids[:3])
    rest, _ = await engine.generate(cut, SamplingParams(max_tokens=3), seed=5, position=3, stop=(stop,))
    assert rest.token_ids == whole.token_ids[3:4]
    assert rest.stop_reason == "stop_string"
    await engine.aclose()


class Letters:
    def decode(self, ids) -> str:
        return "".join(map(chr, ids))

    def encode_markup(self, text: str) -> list[int]:
        return list(map(ord, text))


async def test_the_scripted_engine_cuts_too() -> None:
    engine = ScriptedEngine(lambda text: "script", Letters())
    _, end = await engine.generate(await engine.prefill(None, [65, 66]), SamplingParams(), seed=0)
    cut = end.truncate(5, list(map(ord, "scr")))
    rest, _ = await engine.generate(cut, SamplingParams(), seed=9, position=3)
    assert Letters().decode(rest.token_ids) == "ipt"


def test_top_k_entropy_by_hand() -> None:
    # p = 0.5, 0.25, 0.25: over all three 0.5 ln 2 + 0.5 ln 4 = 1.0397; over two 0.5 ln 2 + 0.25 ln 4 = 0.6931; over one 0.3466
    log_p = torch.tensor([[0.5, 0.25, 0.25]]).log()
    found = [top_k_entropy(log_p, k).item() for k in (1, 2, 3, 10)]
    assert found == pytest.approx([0.34657, 0.69315, 1.03972, 1.03972], abs=1e-5)
    # at temperature 0.5 the probabilities are as their squares: 2/3, 1/6, 1/6; over one -(2/3) ln (2/3) = 0.27031
    assert draw(log_p, 0.5, np.array([0.1]), 1)[2].item() == pytest.approx(0.27031, abs=1e-5)


def test_top_k_changes_the_entropy_alone() -> None:
    logits, uniforms = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)), torch.rand(4).numpy()
    exact, cut = draw(logits, 1.0, uniforms), draw(logits, 1.0, uniforms, 3)
    assert torch.equal(exact[0], cut[0])
    assert torch.equal(exact[1], cut[1])
    assert (cut[2] < exact[2]).all()


async def test_the_engine_gives_the_entropy_asked_for(make_model) -> None:
    engine = make_engine(make_model)
    prompt = await engine.prefill(None, PROMPT)
    exact, _ = await engine.generate(prompt, SamplingParams(max_tokens=5), seed=2)
    cut, _ = await engine.generate(prompt, SamplingParams(max_tokens=5, entropy_top_k=2), seed=2)
    assert cut.token_ids == exact.token_ids
    assert all(a < b for a, b in zip(cut.entropies, exact.entropies, strict=True))
    await engine.aclose()
