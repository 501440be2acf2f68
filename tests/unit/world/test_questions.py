"""How many questions of each kind."""

from arpo.world.config import DEFAULT_KIND_WEIGHTS
from arpo.world.facts import World, compute_answer
from arpo.world.kinds import ATTRIBUTES, KINDS
from arpo.world.questions import allocate


def test_allocation_sums_to_the_count_and_gives_the_rest_to_the_largest_remainders() -> None:
    # 10 * 1/6 = 1.67, 10 * 2/6 = 3.33, 10 * 3/6 = 5: two of the three are rounded down, the one left over goes to 1.67
    assert allocate(10, {"a": 1, "b": 2, "c": 3}) == {"a": 2, "b": 3, "c": 5}
    assert allocate(0, {"a": 1}) == {"a": 0}


def test_default_mix_needs_about_two_calls() -> None:
    total = sum(DEFAULT_KIND_WEIGHTS.values())
    mean = sum(weight / total * KINDS[kind].num_calls for kind, weight in DEFAULT_KIND_WEIGHTS.items())
    assert 2.0 < mean < 2.4
    assert {KINDS[kind].num_calls for kind in DEFAULT_KIND_WEIGHTS} == {1, 2, 3, 4, 5}


def test_each_attribute_is_asked_for_alone() -> None:
    assert {kind.chains for kind in KINDS.values() if kind.num_calls == 1} == {((name,),) for name in ATTRIBUTES}


def test_answers_by_hand() -> None:
    facts = {
        ("Mira Tolvan", "birthplace"): "Kelford",
        ("Mira Tolvan", "birth_year"): "1931",
        ("Ada Moor", "birth_year"): "1907",
        ("Kelford", "region"): "Osmark",
        ("Kelford", "inhabitants"): "41",
        ("Dunmere", "inhabitants"): "13",
    }
    world = World({}, [], facts, range(10, 100))
    assert compute_answer(world, KINDS["birthplace_region"], ["Mira Tolvan"]) == "Osmark"
    assert compute_answer(world, KINDS["birthplace_difference"], ["Mira Tolvan", "Dunmere"]) == "28"  # 41 - 13
    assert compute_answer(world, KINDS["inhabitants_total"], ["Kelford", "Dunmere"]) == "54"  # 41 + 13
    assert compute_answer(world, KINDS["years_between_births"], ["Ada Moor", "Mira Tolvan"]) == "24"  # 1931 - 1907
