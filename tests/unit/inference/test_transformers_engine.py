"""Where requests stop, what happens when they are cancelled or fail, and that timing does not shape the batches."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import torch

from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine
from arpo.inference.cached_prefix import CachedPrefix
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.weights import ModelWeights
from arpo.types import Completion, SamplingParams, StopReason

PROMPT = [5, 6, 7, 8]


def letters(token_ids: Sequence[int]) -> str:
    """One printable character per token of the small vocabulary."""
    return "".join(chr(33 + t) for t in token_ids)


def make_engine(make_model, *, eos: frozenset[int] = frozenset(), decode=letters, **options: int) -> TransformersEngine:
    return TransformersEngine(make_model(vocab_size=90), decode=decode, eos_ids=eos, **options)


@pytest.fixture
def engine(make_model) -> TransformersEngine:
    return make_engine(make_model)


async def sample(engine: TransformersEngine, n: int = 12, *, seed: int = 1, **options) -> Completion:
    """A completion of the prompt; every prefix is given back."""
    prefix = await engine.prefill(None, PROMPT)
    completion, longer = await engine.generate(prefix, SamplingParams(max_tokens=n), seed=seed, **options)
    prefix.release()
    longer.release()
    return completion


def assert_empty(engine: TransformersEngine) -> None:
    engine.cache.check_integrity()
    assert engine.cache.num_used_slots == 0


async def test_the_token_limit_is_exact(engine: TransformersEngine) -> None:
    typed: InferenceEngine[CachedPrefix] = engine
    prefix = await typed.prefill(None, PROMPT)
    for n in (1, 2, 7):
        completion, longer = await typed.generate(prefix, SamplingParams(max_tokens=n), seed=3)
        assert len(completion.token_ids) == len(completion.logprobs) == len(completion.entropies) == n
        assert completion.stop_reason is StopReason.LENGTH
        assert (prefix.num_tokens, longer.num_tokens) == (4, 4 + n)
        longer.release()
    prefix.release()
    assert_empty(engine)


async def test_a_stop_string_that_spans_tokens_ends_sampling_with_its_last_token(engine: TransformersEngine) -> None:
    whole = await sample(engine)
    stop = letters(whole.token_ids[4:7])
    stopped = await sample(engine, stop=("no such text", stop))
    assert stopped.stop_reason is StopReason.STOP_STRING
    end = letters(whole.token_ids).index(stop) + 3
    assert stopped.token_ids == whole.token_ids[:end]


@pytest.mark.parametrize("cut", [1, 4, 5, 6])
async def test_a_stop_string_may_span_a_pause(engine: TransformersEngine, cut: int) -> None:
    whole = await sample(engine)
    stop = letters(whole.token_ids[4:7])
    prefix = await engine.prefill(None, PROMPT)
    first, middle = await engine.generate(prefix, SamplingParams(max_tokens=cut), seed=1, stop=(stop,))
    second, _ = await engine.generate(middle, SamplingParams(max_tokens=9), seed=1, position=cut, stop=(stop,))
    assert (first.stop_reason, second.stop_reason) == (StopReason.LENGTH, StopReason.STOP_STRING)
    assert first.token_ids + second.token_ids == whole.token_ids[: letters(whole.token_ids).index(stop) + 3]


async def test_what_was_written_before_the_completion_completes_no_stop_string(engine: TransformersEngine) -> None:
    whole = await sample(engine)
    stop = letters([PROMPT[-1], whole.token_ids[0]])
    prefix = await engine.prefill(None, PROMPT)
    completion, longer = await engine.generate(prefix, SamplingParams(max_tokens=3), seed=1, stop=(stop,))
    assert completion.stop_reason is StopReason.LENGTH
    follow_up, _ = await engine.generate(longer, SamplingParams(max_tokens=3), seed=2)
    across = letters([completion.token_ids[-1], follow_up.token_ids[0]])
    again, _ = await engine.generate(longer, SamplingParams(max_tokens=3), seed=2, stop=(across,))
    assert again.token_ids == follow_up.token_ids


async def test_a_token_that_carries_more_than_the_end_of_a_stop_string_is_kept_whole(make_model) -> None:
    engine = make_engine(make_model, decode=lambda ids: "".join(f"<{t}>tail" for t in ids))
    whole = await sample(engine)
    completion = await sample(engine, stop=(f"<{whole.token_ids[2]}>",))
    assert completion.token_ids == whole.token_ids[: whole.token_ids.index(whole.token_ids[2]) + 1]


async def test_end_of_sequence_is_kept_and_wins(engine: TransformersEngine, make_model) -> None:
    whole = await sample(engine)
    end = whole.token_ids[3]
    at = whole.token_ids.index(end) + 1
    ending = make_engine(make_model, eos=frozenset({end, 89}))
    completion = await sample(ending, n=at, stop=(letters([end]),))
    assert completion.stop_reason is StopReason.EOS
    assert completion.token_ids == whole.token_ids[:at]


async def test_the_same_seed_draws_the_same_and_another_seed_does_not(engine: TransformersEngine) -> None:
    first, again, other = [await sample(engine, seed=s) for s in (1, 1, 2)]
    assert first == again
    assert first.token_ids != other.token_ids


async def test_greedy_ignores_the_seed(engine: TransformersEngine) -> None:
    prefix = await engine.prefill(None, PROMPT)
    drawn = [await engine.generate(prefix, SamplingParams(temperature=0, max_tokens=8), seed=s) for s in (1, 2)]
    assert drawn[0][0] == drawn[1][0]
    assert len(set(drawn[0][0].token_ids)) > 1


async def test_temperatures_are_mixed_in_one_batch(engine: TransformersEngine) -> None:
    prefix = await engine.prefill(None, PROMPT)
    params = [SamplingParams(temperature=t, max_tokens=6) for t in (0.0, 0.5, 1.0, 0.5)]
    alone = [(await engine.generate(prefix, p, seed=i))[0] for i, p in enumerate(params)]
    together = await asyncio.gather(*(engine.generate(prefix, p, seed=i) for i, p in enumerate(params)))
    assert [c.token_ids for c, _ in together] == [c.token_ids for c in alone]


async def test_a_small_token_limit_per_batch_changes_passes_not_results(make_model) -> None:
    results, passes = [], []
    for limit in (10_000, 5, 1):
        engine = make_engine(make_model, max_batch_tokens=limit)
        results.append([c.token_ids for c in await asyncio.gather(*(sample(engine, 6, seed=s) for s in range(5)))])
        passes.append(engine.num_forward_passes)
        assert_empty(engine)
    assert results[0] == results[1] == results[2]
    assert passes[0] < passes[1] < passes[2]


async def test_no_more_requests_than_the_width_are_computed_at_once(make_model) -> None:
    results, widths = [], []
    for width in (None, 3, 1):
        engine = make_engine(make_model, max_width=width)
        prefix = await engine.prefill(None, PROMPT)
        sizes: list[int] = []
        engine._model.base_model.register_forward_pre_hook(
            lambda _, __, inputs, sizes=sizes: sizes.append(inputs["input_ids"].shape[1]), with_kwargs=True
        )
        # the first request is the longest: the others take turns beside it
        lengths = [13, 4, 5, 3, 4, 5, 3, 2]
        requests = [engine.generate(prefix, SamplingParams(max_tokens=n), seed=s) for s, n in enumerate(lengths)]
        drawn = await asyncio.gather(*requests)
        results.append([c.token_ids for c, _ in drawn])
        widths.append(max(sizes))
        for _, longer in drawn:
            longer.release()
        prefix.release()
        assert_empty(engine)
    assert results[0] == results[1] == results[2]
    assert widths == [8, 3, 1]


async def test_a_request_that_waits_for_its_turn_can_be_cancelled(make_model) -> None:
    engine = make_engine(make_model, max_width=1)
    prefix = await engine.prefill(None, PROMPT)
    tasks = [asyncio.create_task(engine.generate(prefix, SamplingParams(max_tokens=20), seed=s)) for s in range(3)]
    while engine.num_forward_passes < 5:
        await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[1].cancelled()
    for task in (tasks[0], tasks[2]):
        task.result()[1].release()
    prefix.release()
    assert_empty(engine)


async def test_cancelling_frees_the_slot_at_once_and_leaves_others_alone(engine: TransformersEngine) -> None:
    expected = await sample(engine, 40)
    prefix = await engine.prefill(None, PROMPT)
    doomed = asyncio.create_task(engine.generate(prefix, SamplingParams(max_tokens=10_000), seed=9))
    kept = asyncio.create_task(engine.generate(prefix, SamplingParams(max_tokens=40), seed=1))
    while engine.num_forward_passes < 50:
        await asyncio.sleep(0)
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)
    assert doomed.cancelled()
    completion, longer = await kept
    assert completion.token_ids == expected.token_ids
    assert engine.cache.num_used_slots <= 2
    longer.release()
    prefix.release()
    assert_empty(engine)


@pytest.mark.parametrize("seed", range(4))
async def test_a_cancelled_request_gives_back_what_it_would_have_returned(engine: TransformersEngine, seed: int) -> None:
    """Only the prompt's prefix is held by the callers, so that any other slot in use at the end has leaked."""
    random = Random(seed)
    prefix = await engine.prefill(None, PROMPT)

    async def request(seed: int) -> None:
        _, longer = await engine.generate(prefix, SamplingParams(max_tokens=random.randint(1, 4)), seed=seed)
        longer.release()

    async def observe() -> None:
        (await engine.prefill(prefix, [1, 2])).release()

    tasks = [asyncio.create_task(request(s) if s % 3 else observe()) for s in range(20)]
    for task in random.sample(tasks, 20):
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    prefix.release()
    assert_empty(engine)


async def test_an_error_in_a_step_reaches_every_caller_and_frees_their_slots(engine: TransformersEngine) -> None:
    prefix = await engine.prefill(None, PROMPT)

    def fail(*_: object) -> None:
        if engine.num_forward_passes == 3:
            raise ZeroDivisionError("broken kernel")

    hook = engine._model.base_model.register_forward_pre_hook(fail)
    requests = [engine.generate(prefix, SamplingParams(max_tokens=9), seed=s) for s in range(4)]
    failed = await asyncio.gather(*requests, engine.prefill(None, [1, 2, 3]), return_exceptions=True)
    # the prefill was computed in the first pass; the others fail in the fourth
    assert isinstance(failed[-1], CachedPrefix)
    for error in failed[:-1]:
        assert isinstance(error, EngineError)
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert "broken kernel" in str(error)
    hook.remove()
    failed[-1].release()
    assert engine.cache.num_used_slots == 1
    completion, longer = await engine.generate(prefix, SamplingParams(max_tokens=5), seed=1)
    assert completion.token_ids == (await sample(engine, 5)).token_ids
    longer.release()
    prefix.release()
    assert_empty(engine)


async def test_memory_that_runs_out_while_requests_are_admitted_fails_them_all(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = await engine.prefill(None, PROMPT)

    def full(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(engine.cache, "_reserve", full)
        requests = [engine.generate(prefix, SamplingParams(max_tokens=90), seed=s) for s in range(12)]
        failed = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(e, EngineError) and "no room" in str(e) for e in failed)
    prefix.release()
    assert_empty(engine)


async def test_weights_of_another_architecture_are_refused_and_change_nothing(engine: TransformersEngine, make_model) -> None:
    before = await sample(engine)
    with pytest.raises(EngineError, match=r"update_weights: weights of another model: 'lm_head.weight' has shape \(91, "):
        await engine.update_weights(ModelWeights(make_model(vocab_size=91)), 1)
    with pytest.raises(EngineError, match=r"update_weights: elsewhere: no such directory"):
        await engine.update_weights(Path("elsewhere"), 1)
    assert engine.version == 0
    assert await sample(engine) == before


async def test_shared_weights_are_used_as_they_are(engine: TransformersEngine) -> None:
    before = await sample(engine)
    with torch.no_grad():
        engine._model.get_output_embeddings().weight.mul_(-1.0)
    assert (await sample(engine)).token_ids != before.token_ids


async def test_closing_answers_whoever_still_waits(engine: TransformersEngine) -> None:
    prefix = await engine.prefill(None, PROMPT)
    waiting = asyncio.create_task(engine.generate(prefix, SamplingParams(max_tokens=10**6), seed=0))
    while engine.num_forward_passes < 5:
        await asyncio.sleep(0)
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await waiting
    for request in (engine.prefill(None, PROMPT), engine.generate(prefix, SamplingParams(max_tokens=1), seed=0)):
        with pytest.raises(EngineError, match="is closed; build a new one"):
            await request
    assert asyncio.all_tasks() == {asyncio.current_task()}, "no new background task either"
    prefix.release()
    assert_empty(engine)


async def _walk(engine: TransformersEngine, name: int, latency: Random) -> None:
    """Prompt, then turns of completion, a tool of random latency, observation; some walks are longer than others."""
    prefix = await engine.prefill(None, [*PROMPT, name])
    for turn in range(1 + name % 3):
        completion, longer = await engine.generate(prefix, SamplingParams(max_tokens=2 + name), seed=100 * name + turn)
        prefix.release()
        await asyncio.sleep(latency.choice([0, 0, 0.001, 0.004]))
        prefix = await engine.prefill(longer, completion.token_ids[:2] + [name] * (1 + turn))
        longer.release()
    prefix.release()


async def _batches(make_model, latency: Random, num_walks: int = 6) -> list[list[int]]:
    """The tokens of each forward pass while several walks participate."""
    engine = make_engine(make_model)
    passes: list[list[int]] = []
    engine._model.base_model.register_forward_pre_hook(
        lambda _, __, inputs: passes.append(inputs["input_ids"][0].tolist()), with_kwargs=True
    )

    participations = [engine.participate() for _ in range(num_walks)]
    for participation in participations:
        participation.__enter__()

    async def leave(name: int) -> None:
        try:
            await _walk(engine, name, latency)
        finally:
            participations[name].__exit__(None, None, None)

    await asyncio.gather(*(leave(name) for name in latency.sample(range(num_walks), num_walks)))
    assert_empty(engine)
    return passes


async def test_batches_do_not_depend_on_latency_while_all_participate(make_model) -> None:
    first, second, third = [await _batches(make_model, Random(s)) for s in (1, 2, 3)]
    assert first == second == third
    assert max(map(len, first)) > 10  # several walks share a pass


async def test_whoever_leaves_or_is_cancelled_does_not_hold_the_others_up(engine: TransformersEngine) -> None:
    async def work(name: int) -> None:
        with engine.participate():
            prefix = await engine.prefill(None, [*PROMPT, name])
            try:
                _, longer = await engine.generate(prefix, SamplingParams(max_tokens=5 + 20 * name), seed=name)
                longer.release()
            finally:
                prefix.release()

    async def idle() -> None:
        with engine.participate():
            await asyncio.sleep(3600)

    sleeper = asyncio.create_task(idle())
    workers = [asyncio.create_task(work(n)) for n in range(4)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert engine.num_forward_passes == 0  # one participant does not await the engine
    sleeper.cancel()
    while engine.num_forward_passes < 8:
        await asyncio.sleep(0)
    workers[3].cancel()
    results = await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 30)
    assert results[:3] == [None] * 3
    assert isinstance(results[3], asyncio.CancelledError)
    assert (engine._num_participants, engine._num_busy) == (0, 0)
    assert_empty(engine)
