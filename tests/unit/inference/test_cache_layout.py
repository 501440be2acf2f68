"""Neighbouring slots share attention calls where it pays, and every way to share them gives the same attention."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from arpo.inference import cache_layout
from arpo.inference.cache_layout import CacheLayout, Segment
from arpo.inference.kv_cache import ForkableKVCache

CPU = torch.device("cpu")


def make_cache(lengths: list[int], kv_heads: int) -> ForkableKVCache:
    """Slots filled with random keys and values."""
    cache = ForkableKVCache(num_layers=1, num_kv_heads=kv_heads, head_dim=8, dtype=torch.float64, device=CPU)
    for slot, length in enumerate(lengths):
        assert cache.allocate() == slot
        cache.extend(slot, length)
    for states in cache.layer(0):
        for slot, length in enumerate(lengths):
            states[slot, :, :length] = torch.randn(kv_heads, length, 8, dtype=torch.float64)
    return cache


def num_calls(lengths: list[int], segments: list[tuple[int, int]], call_cost: int, monkeypatch) -> int:
    cache = make_cache(lengths, 1)
    monkeypatch.setitem(cache_layout._CALL_BYTES, "cpu", call_cost * cache.position_bytes)
    return len(CacheLayout(cache, [Segment(slot, lengths[slot], n) for slot, n in segments], CPU)._blocks)


def test_what_shares_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [10, 12, 30, 11]
    assert num_calls(lengths, [(0, 1), (1, 1)], 2, monkeypatch) == 1  # slot 0 reads two positions too much
    assert num_calls(lengths, [(0, 1), (1, 1)], 1, monkeypatch) == 2
    # slot 0 reads 2 too much for slot 1, then slots 0 and 1 would read 18 each too much: 38 in vain
    assert num_calls(lengths, [(0, 1), (1, 1), (2, 1)], 37, monkeypatch) == 2
    assert num_calls(lengths, [(0, 1), (1, 1), (2, 1)], 38, monkeypatch) == 1
    assert num_calls(lengths, [(0, 1), (3, 1)], 99, monkeypatch) == 2  # no neighbours
    assert num_calls(lengths, [(0, 1), (1, 2)], 99, monkeypatch) == 2  # not equally many new tokens


@pytest.mark.parametrize("call_cost", [0, 3, 10_000])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_that_of_each_sequence_alone(kv_heads: int, call_cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    lengths, counts = [5, 5, 9, 0, 3, 70, 2], [1, 1, 1, 4, 4, 1, 3]
    cache = make_cache(lengths, kv_heads)
    monkeypatch.setitem(cache_layout._CALL_BYTES, "cpu", call_cost * cache.position_bytes)
    slots = [0, 1, 2, 3, 4, 6]  # slot 5 rests
    layout = CacheLayout(cache, [Segment(s, lengths[s], counts[s]) for s in slots], CPU)
    total = sum(counts[s] for s in slots)
    query = torch.randn(total, 4, 8, dtype=torch.float64)
    key, value = torch.randn(2, total, kv_heads, 8, dtype=torch.float64)
    output = layout.attend(0, query, key, value, scale=0.3)
    first = 0
    for slot in slots:
        span = slice(first, first + counts[slot])
        first = span.stop
        start, end = lengths[slot], lengths[slot] + counts[slot]
        keys, values = (states[slot, :, :end].clone() for states in cache.layer(0))
        assert torch.equal(keys[:, start:], key[span].transpose(0, 1))
        assert torch.equal(values[:, start:], value[span].transpose(0, 1))
        mask = torch.ones(counts[slot], end, dtype=torch.bool).tril(diagonal=start)
        expected = scaled_dot_product_attention(
            query[span].transpose(0, 1), keys, values, attn_mask=mask, scale=0.3, enable_gqa=True
        )
        torch.testing.assert_close(output[span], expected.transpose(0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scores_at_once", [1, 3000, 1 << 21])
@pytest.mark.parametrize(("num_new", "mask_rows"), [(1, 0), (1, 5), (7, 1), (7, 5)])
def test_every_way_of_attention_is_the_exact_one(
    dtype: torch.dtype, scores_at_once: int, num_new: int, mask_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine heads over three of the keys, against float64; a weight in bfloat16 is good to 2^-8, an average of values of size 1
    and the scores under it add a few times that."""
    monkeypatch.setattr(cache_layout, "_SCORES_AT_ONCE", scores_at_once)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(5, 3, 3, num_new, 64, generator=generator).to(dtype)
    storage = torch.randn(2, 5, 3, 40, 64, generator=generator).to(dtype)
    keys, values = storage[:, :, :, :20]
    is_hidden = torch.rand(mask_rows, 1, num_new, 20, generator=generator) < 0.3
    mask = torch.zeros(is_hidden.shape, dtype=dtype).masked_fill(is_hidden, float("-inf")) if mask_rows else None
    found = cache_layout.grouped_attention(query, keys, values, mask, scale=0.125)
    exact_query, exact_keys, exact_values = (states.double() for states in (query, keys, values))
    scores = 0.125 * exact_query @ exact_keys.unsqueeze(2).transpose(-1, -2)
    scores = scores if mask is None else scores + mask.unsqueeze(2)
    expected = scores.softmax(-1) @ exact_values.unsqueeze(2)
    assert found.dtype is dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 if dtype is torch.float32 else 0.03)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [9, 7, 8, 3]])
def test_one_token_further_is_the_layout_made_anew(lengths: list[int]) -> None:
    """Even lengths and uneven ones, whose mask moves along."""
    torch.manual_seed(0)
    rows = len(lengths)
    advanced, anew = make_cache(lengths, 2), make_cache(lengths, 2)
    for states, advanced_states in zip(anew._layers, advanced._layers, strict=True):
        states.copy_(advanced_states)
    layout = CacheLayout(advanced, [Segment(s, n, 1) for s, n in enumerate(lengths)], CPU)
    for step in range(4):
        if step:
            assert layout.advance()
        fresh = CacheLayout(anew, [Segment(s, n + step, 1) for s, n in enumerate(lengths)], CPU)
        query = torch.randn(rows, 4, 8, dtype=torch.float64)
        key, value = torch.randn(2, rows, 2, 8, dtype=torch.float64)
        outputs = [made.attend(0, query, key, value, scale=0.3) for made in (layout, fresh)]
        assert torch.equal(*outputs)
        assert torch.equal(layout.positions, fresh.positions)
    assert advanced.lengths == anew.lengths == [n + 4 for n in lengths]


def test_what_cannot_go_on_takes_a_new_layout() -> None:
    cache = make_cache([5, 5], 1)
    assert not CacheLayout(cache, [Segment(0, 5, 1), Segment(1, 5, 2)], CPU).advance()  # a prefill is not decoding
    layout = CacheLayout(cache, [Segment(0, 6, 1)], CPU)
    while cache.lengths[0] < cache.num_positions:
        assert layout.advance()
    assert not layout.advance()  # its slot is full
    layout = CacheLayout(cache, [Segment(1, 7, 1)], CPU)
    cache.extend(0, 1)
    assert not layout.advance()  # the cache has moved
    assert cache.lengths[1] == 8
