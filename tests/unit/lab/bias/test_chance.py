from collections import Counter
from random import Random
from typing import cast

import pytest

from arpo.lab.bias.chance import Chance, LazyUniform, draw, outcomes
from arpo.rollout.config import RandomRuleConfig
from arpo.rollout.rules import Opportunity, RandomRule


def test_draw_cuts_the_unit_interval():
    assert [draw([0.2, 0.5, 0.3], u) for u in (0.0, 0.19, 0.2, 0.69, 0.71, 0.999)] == [0, 0, 1, 1, 2, 2]


def test_outcomes_are_all_there_once_with_their_probability():
    def play(chance: Chance) -> str:
        first = chance.choose([0.25, 0.75])
        return "stop" if first == 0 else f"go {chance.choose([0.5, 0.3, 0.2])}"

    assert [(name, p) for p, name in outcomes(play)] == [
        ("stop", 0.25), ("go 0", 0.375), ("go 1", pytest.approx(0.225)), ("go 2", pytest.approx(0.15)),
    ]  # fmt: skip


def test_comparisons_of_one_uniform_agree_with_each_other():
    def play(chance: Chance) -> tuple[bool, bool, float]:
        x = LazyUniform(chance)
        return x < 0.4, x < 0.7, -x

    seen = {outcome: p for p, outcome in outcomes(play)}
    assert seen == pytest.approx({(True, True, -0.2): 0.4, (False, True, -0.55): 0.3, (False, False, -0.85): 0.3})


def test_a_random_rule_branches_at_its_rate():
    def play(chance: Chance) -> int:
        stand_in = type("Uniforms", (), {"random": lambda self: LazyUniform(chance)})()
        return len(RandomRule(RandomRuleConfig(rate=0.3)).decide([opportunity(1), opportunity(2)], cast(Random, stand_in)))

    counts: Counter[int] = Counter()
    for p, number in outcomes(play):
        counts[number] += p  # pyright: ignore[reportArgumentType]
    assert counts == pytest.approx({0: 0.49, 1: 0.42, 2: 0.09})


def opportunity(node: int) -> Opportunity:
    return Opportunity(
        node=node, turn=1, entropies=(0.5,), call_entropies=(0.5,), initial_entropies=(0.5,), entropy_delta=0.0, normalizer=1.0,
        entropies_by_turn=(), consecutive_branches=0, consecutive_rounds=0,
    )  # fmt: skip
