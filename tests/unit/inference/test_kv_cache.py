"""Slots are shared as long as nobody writes beyond a prefix, copied where somebody did, and freed exactly once."""

from random import Random

import pytest
import torch

from arpo.errors import EngineError
from arpo.inference.kv_cache import ForkableKVCache
from arpo.models.allocation import trace_allocations


@pytest.fixture
def cache() -> ForkableKVCache:
    return ForkableKVCache(num_layers=2, num_kv_heads=1, head_dim=1, dtype=torch.float32, device=torch.device("cpu"))


def write(cache: ForkableKVCache, slot: int, values: list[int]) -> None:
    """Extend a slot by one position per value, the value being its key in every layer and its negative the value."""
    start = cache.lengths[slot]
    cache.extend(slot, len(values))
    (row,) = cache.rows([slot])
    for layer in range(2):
        keys, negatives = cache.layer(layer)
        keys[row, 0, start : start + len(values), 0] = torch.tensor(values, dtype=torch.float32)
        negatives[row, 0, start : start + len(values), 0] = -torch.tensor(values, dtype=torch.float32)


def read(cache: ForkableKVCache, slot: int, length: int) -> list[int]:
    (row,) = cache.rows([slot])
    kept = [cache.layer(layer)[0][row, 0, :length, 0] for layer in range(2)]
    assert torch.equal(*kept)
    assert torch.equal(cache.layer(1)[1][row, 0, :length, 0], -kept[0])
    return [int(v) for v in kept[0]]


def test_the_longest_prefix_is_continued_in_place(cache: ForkableKVCache) -> None:
    slot = cache.allocate()
    write(cache, slot, [1, 2, 3])
    assert cache.claim(slot, 3) == slot
    assert cache.num_copied_tokens == 0
    assert cache.num_used_slots == 1


def test_a_shorter_prefix_is_copied_and_the_slot_left_alone(cache: ForkableKVCache) -> None:
    slot = cache.allocate()
    write(cache, slot, [1, 2, 3])
    other = cache.claim(slot, 2)
    assert other != slot
    write(cache, other, [8, 9])
    assert (read(cache, slot, 3), read(cache, other, 4)) == ([1, 2, 3], [1, 2, 8, 9])
    assert cache.num_copied_tokens == 2


def test_two_writers_never_share_a_slot(cache: ForkableKVCache) -> None:
    slot = cache.allocate()
    write(cache, slot, [1, 2])
    first, second = cache.claim(slot, 2), cache.claim(slot, 2)
    write(cache, first, [3])
    write(cache, second, [4])
    assert (read(cache, first, 3), read(cache, second, 3)) == ([1, 2, 3], [1, 2, 4])
    cache.end_writing(first)
    assert cache.claim(first, 3) == first


def test_a_slot_lives_until_its_last_prefix_goes_and_the_lowest_free_one_is_next(cache: ForkableKVCache) -> None:
    slots = [cache.allocate() for _ in range(3)]
    assert slots == [0, 1, 2]
    cache.retain(1)
    cache.release(1)
    assert cache.num_used_slots == 3
    for slot in (2, 0, 1):
        cache.release(slot)
        cache.check_integrity()
    assert cache.num_used_slots == 0
    assert [cache.allocate() for _ in range(4)] == [0, 1, 2, 3]
    assert cache.lengths == [0, 0, 0, 0]


def test_releasing_twice_is_an_error_and_harmless(cache: ForkableKVCache) -> None:
    slot = cache.allocate()
    cache.release(slot)
    with pytest.raises(EngineError, match="released twice"):
        cache.release(slot)
    cache.check_integrity()
    assert cache.allocate() == slot
    assert cache.allocate() != slot


def test_integrity_notices_a_lost_slot(cache: ForkableKVCache) -> None:
    slot, _ = cache.allocate(), cache.allocate()
    cache.release(slot)
    cache._free.clear()
    with pytest.raises(EngineError, match="integrity"):
        cache.check_integrity()


def test_a_cache_without_prefixes_holds_no_memory(cache: ForkableKVCache) -> None:
    """Its memory is the update's; a slot released again after that is still an error."""
    first, second = cache.allocate(), cache.allocate()
    write(cache, first, [1] * 100)
    cache.release(first)
    assert cache.num_slots >= 2
    cache.release(second)
    assert (cache.num_slots, cache.num_positions) == (0, 0)
    with pytest.raises(EngineError, match="released twice"):
        cache.release(second)
    assert cache.allocate() == 0


@pytest.mark.parametrize(
    ("most", "positions"), [(None, [64, 128, 256]), (150, [64, 128, 150]), (130, [64, 128, 130]), (100, [64, 120, 129])]
)
def test_memory_grows_to_the_longest_sequence_expected(most: int | None, positions: list[int]) -> None:
    """A new slot, then 120 and 129 positions: doubled, or as the longest sequence has; a longer one gets its own."""
    shape = {"num_layers": 1, "num_kv_heads": 1, "head_dim": 2, "dtype": torch.float32, "device": torch.device("cpu")}
    cache = ForkableKVCache(**shape, most_positions=most)  # pyright: ignore[reportArgumentType]
    slot = cache.allocate()
    found = [cache.num_positions]
    for num_tokens in (120, 9):
        cache.extend(slot, num_tokens)
        found.append(cache.num_positions)
    assert found == positions


def test_only_one_layer_stands_in_memory_twice_while_it_grows() -> None:
    """A layer of 8 rows: 2 x 8 rows x 64 positions x 4 numbers x 4 bytes = 16,384; of 16 rows: 32,768."""
    with trace_allocations() as trace:
        cache = ForkableKVCache(
            num_layers=3, num_kv_heads=1, head_dim=4, dtype=torch.float32, device=torch.device("cpu"), most_positions=64
        )
        slots = [cache.allocate() for _ in range(8)]
        for slot in slots:
            cache.extend(slot, 64)
        assert trace.live == 3 * 16_384
        trace.restart()
        cache.allocate()
        assert trace.live == 3 * 32_768
        assert trace.peak == 3 * 32_768 + 16_384


def test_growing_in_both_directions_keeps_what_is_there(cache: ForkableKVCache) -> None:
    slots = [cache.allocate() for _ in range(20)]
    for slot in slots:
        write(cache, slot, [slot] * (slot + 1))
    write(cache, 3, [7] * 500)
    assert all(read(cache, slot, slot + 1) == [slot] * (slot + 1) for slot in slots)
    assert cache.num_slots >= 20
    assert cache.layer(0)[0].shape[2] >= 504


@pytest.mark.parametrize("seed", range(4))
def test_random_forks_against_plain_lists(cache: ForkableKVCache, seed: int) -> None:
    """Many prefixes continued, forked and released in random order: each reads as the list it should be."""
    random = Random(seed)
    held: list[tuple[int, list[int]]] = []
    for step in range(300):
        action = random.random()
        if not held or action < 0.15:
            held.append((cache.allocate(), []))
            cache.end_writing(held[-1][0])
        elif action < 0.6:
            slot, content = random.choice(held)
            target = cache.claim(slot, len(content))
            new = [random.randrange(1000) for _ in range(random.randint(1, 4))]
            write(cache, target, new)
            cache.end_writing(target)
            held.append((target, content + new))
        elif action < 0.75:
            slots = sorted({slot for slot, _ in held})
            cache.gather(random.sample(slots, random.randint(1, len(slots))))
        else:
            cache.release(held.pop(random.randrange(len(held)))[0])
        if step % 25 == 0:
            cache.check_integrity()
            assert all(read(cache, slot, len(content)) == content for slot, content in held)
    for slot, _ in held:
        cache.release(slot)
    cache.check_integrity()
    assert cache.num_used_slots == 0


def test_gathered_slots_lie_in_the_first_rows_and_keep_what_they_hold(cache: ForkableKVCache) -> None:
    slots = [cache.allocate() for _ in range(5)]
    for slot in slots:
        write(cache, slot, [10 * slot + n for n in range(slot + 1)])
    cache.release(1)
    cache.gather([4, 0, 2])
    assert sorted(cache.rows([0, 2, 4])) == [0, 1, 2]
    assert cache.rows([0, 2]) == [0, 2]  # they lay there before: only slots 4 and 1 changed places
    cache.gather([3, 4])
    assert sorted(cache.rows([3, 4])) == [0, 1]
    for slot in (0, 2, 3, 4):
        assert read(cache, slot, slot + 1) == [10 * slot + n for n in range(slot + 1)]
    cache.check_integrity()


def test_an_emptied_cache_is_as_a_new_one(cache: ForkableKVCache) -> None:
    """Rows decide the order of a batch, and with it how its products round: what comes must not depend on what was."""
    slots = [cache.allocate() for _ in range(5)]
    cache.gather([slots[4], slots[2]])
    assert cache.rows(slots) != slots
    for slot in slots[:4]:
        cache.release(slot)
    assert cache.rows([slots[4]]) != [slots[4]], "one is still used"
    cache.release(slots[4])
    slots = [cache.allocate() for _ in range(5)]
    assert (slots, cache.rows(slots)) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
