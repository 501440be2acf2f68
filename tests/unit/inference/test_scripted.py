"""The scripted engine keeps the contract of every engine: stop strings, token limits, going on by position."""

from collections.abc import Sequence

import pytest

from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine
from arpo.inference.scripted import ScriptedEngine
from arpo.types import SamplingParams, StopReason


class Letters:
    """One token per character."""

    def encode_markup(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def encode_untrusted(self, text: str) -> list[int]:
        return self.encode_markup(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))


def reverse(prefix_text: str) -> str:
    return f"{prefix_text[::-1]}</a> more"


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(reverse, Letters())


async def test_completion_ends_with_the_first_stop_string(engine: ScriptedEngine) -> None:
    typed: InferenceEngine = engine
    prefix = await typed.prefill(await typed.prefill(None, [ord("x")]), [ord("y")])
    completion, longer = await typed.generate(prefix, SamplingParams(), seed=0, stop=("</b>", "</a>"))
    assert Letters().decode(completion.token_ids) == "yx</a>"
    assert completion.stop_reason is StopReason.STOP_STRING
    assert completion.logprobs == completion.entropies == [0.0] * 6
    assert (prefix.num_tokens, longer.num_tokens) == (2, 8)


async def test_without_a_stop_string_the_text_is_whole(engine: ScriptedEngine) -> None:
    prefix = await engine.prefill(None, [ord("x")])
    completion, _ = await engine.generate(prefix, SamplingParams(), seed=0, stop=("</b>",))
    assert Letters().decode(completion.token_ids) == "x</a> more"
    assert completion.stop_reason is StopReason.EOS


async def test_a_cut_completion_goes_on_where_it_stopped(engine: ScriptedEngine) -> None:
    prefix = await engine.prefill(None, [ord("x")])
    whole, _ = await engine.generate(prefix, SamplingParams(), seed=0, stop=("</a>",))
    drawn: list[int] = []
    reasons = []
    handle = prefix
    while not reasons or reasons[-1] is StopReason.LENGTH:
        part, handle = await engine.generate(handle, SamplingParams(max_tokens=2), seed=0, position=len(drawn), stop=("</a>",))
        drawn += part.token_ids
        reasons.append(part.stop_reason)
    # "x</a>" has 5 tokens: 2, 2 and 1
    assert reasons == [StopReason.LENGTH, StopReason.LENGTH, StopReason.STOP_STRING]
    assert drawn == whole.token_ids


async def test_forks_of_one_prefix_are_independent(engine: ScriptedEngine) -> None:
    prefix = await engine.prefill(None, [ord("x")])
    left, right = await engine.prefill(prefix, [ord("l")]), await engine.prefill(prefix, [ord("r")])
    prefix.release()
    texts = [
        Letters().decode((await engine.generate(p, SamplingParams(), seed=0, stop=("</a>",)))[0].token_ids)
        for p in (left, right)
    ]
    assert texts == ["lx</a>", "rx</a>"]


async def test_a_position_that_is_not_the_scripts_own_is_refused(engine: ScriptedEngine) -> None:
    prefix = await engine.prefill(None, [ord(c) for c in "xz"])
    with pytest.raises(EngineError, match="not the script's"):
        await engine.generate(prefix, SamplingParams(), seed=0, position=1)
