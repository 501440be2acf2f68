"""Every branch rule worked by hand; the arithmetic is in the comments."""

import math
from collections import Counter
from itertools import combinations
from random import Random
from typing import Any

import pytest

from arpo.rollout.branch_history import BranchHistory
from arpo.rollout.config import (
    AepoReleasedRuleConfig,
    AepoRuleConfig,
    AppoRuleConfig,
    ArpoReleasedRuleConfig,
    ArpoRuleConfig,
    EptreeRuleConfig,
    MixedOutcomesRuleConfig,
    NoBranchingConfig,
    RandomNodeRuleConfig,
    RandomRuleConfig,
    RandomTokenRuleConfig,
    ThresholdRuleConfig,
    TokenEntropyRuleConfig,
)
from arpo.rollout.rules import (
    AepoReleasedRule,
    AepoRule,
    AppoRule,
    ArpoReleasedRule,
    ArpoRule,
    CompletionView,
    EptreeRule,
    ForkRequest,
    MixedOutcomesRule,
    NoBranching,
    NodeView,
    Opportunity,
    PastGroups,
    Probe,
    RandomNodeRule,
    RandomRule,
    RandomTokenRule,
    ThresholdRule,
    TokenEntropyRule,
)
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Task

FIRST = PastGroups()
"""Of a task that was never sampled."""


def at(node: int = 2, **known: Any) -> Opportunity:
    """An opportunity of which only what a test names matters."""
    nothing = {
        "turn": 1, "entropies": (0.0,), "call_entropies": (0.0,), "initial_entropies": (0.0,), "entropy_delta": 0.0,
        "normalizer": 1.0, "entropies_by_turn": (), "consecutive_branches": 0, "consecutive_rounds": 0,
    }  # fmt: skip
    return Opportunity(node=node, **(nothing | known))


class Numbers(Random):
    """Gives the numbers it was given."""

    def __init__(self, *numbers: float):
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


def asked(requests: list[ForkRequest]) -> list[tuple[int, int]]:
    """(node, count), by priority."""
    return [(r.node, r.count) for r in sorted(requests, key=lambda r: -r.priority)]


def test_none() -> None:
    rule = NoBranching(NoBranchingConfig())
    assert rule.plan(8, 3, None, FIRST) == 8
    assert rule.score(at(entropy_delta=9.0)) is None
    assert rule.decide([at(entropy_delta=9.0)], Random(0)) == []


def test_arpo() -> None:
    # 0.5 + 0.2 * 0.08 = 0.516 > 0.5; 0.5 + 0.2 * -0.01 = 0.498; at 0 exactly 0.5, which is not above tau; 0.5 + 0.2 * 1 = 0.7
    rule = ArpoRule(ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.5, branch_factor=2))
    places = [at(3, entropy_delta=0.08), at(4, entropy_delta=-0.01), at(5, entropy_delta=0.0), at(6, entropy_delta=1.0)]
    assert [rule.score(o) for o in places] == pytest.approx([0.516, 0.498, 0.5, 0.7])
    assert asked(rule.decide(places, Random(0))) == [(6, 2), (3, 2)]
    assert rule.plan(16, 8, None, FIRST) == 8


# mean and sum: after the result 0.9 and 1.8, of the call 0.5 and 1.5, of the baseline 0.3 and 0.6; the normaliser is 2
WINDOWS = {"entropies": (1.0, 0.8), "call_entropies": (0.7, 0.5, 0.3), "initial_entropies": (0.2, 0.4), "normalizer": 2.0}


@pytest.mark.parametrize(
    ("lag", "sum_over_window", "probability"),
    [
        (True, True, 0.5 + 0.2 * (1.5 - 0.6) / 2),  # 0.59, as released
        (True, False, 0.5 + 0.2 * (0.5 - 0.3) / 2),  # 0.52
        (False, True, 0.5 + 0.2 * (1.8 - 0.6) / 2),  # 0.62
        (False, False, 0.5 + 0.2 * (0.9 - 0.3) / 2),  # 0.56, the paper's quantity
    ],
)
def test_arpo_released(lag: bool, sum_over_window: bool, probability: float) -> None:
    rule = ArpoReleasedRule(ArpoReleasedRuleConfig(lag=lag, sum_over_window=sum_over_window))
    assert rule.score(at(**WINDOWS)) == pytest.approx(probability)
    # the draw branches iff it is below the probability; equal priorities: the order of the paths decides
    draws = Numbers(probability + 1e-9, probability - 1e-9, 0.0)
    assert asked(rule.decide([at(n, **WINDOWS) for n in (4, 9, 7)], draws)) == [(9, 1), (7, 1)]


def test_arpo_released_defaults_are_the_public_code_s() -> None:
    config = ArpoReleasedRuleConfig()
    assert (config.branch_probability, config.entropy_weight, config.branch_factor) == (0.5, 0.2, 1)
    assert (config.lag, config.sum_over_window) == (True, True)
    # in the first turn the completion that made the call is the baseline itself: a fair coin
    first = at(call_entropies=(0.7, 0.2), initial_entropies=(0.7, 0.2), entropies=(9.0,))
    assert ArpoReleasedRule(config).score(first) == 0.5


def test_arpo_released_agrees_with_the_public_code_s_words() -> None:
    """It draws u, clips u - w * delta to [0, 1] and goes on without a branch iff that exceeds 0.5."""
    rule = ArpoReleasedRule(ArpoReleasedRuleConfig())
    random = Random(0)
    for _ in range(500):
        delta, u = random.uniform(-4, 4), random.random()
        place = at(call_entropies=(delta,), initial_entropies=(0.0,))
        branches = not min(1.0, max(0.0, u - 0.2 * delta)) > 0.5
        assert bool(rule.decide([place], Numbers(u))) == branches


def test_arpo_released_tries_branch_factor_times() -> None:
    rule = ArpoReleasedRule(ArpoReleasedRuleConfig(branch_factor=3))  # P = 0.5: two of the three numbers are below
    assert asked(rule.decide([at()], Numbers(0.1, 0.9, 0.49))) == [(2, 2)]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (((0.6, 1.0), (1.0, 1.4)), 7),  # H_root 0.8, H_tool 1.2: 16 / (1 + e^0.2) = 16 * 0.45017 = 7.20
        (((0.6, 1.0),), 8),  # no tool call: H_tool = H_root, 16 / 2
        (((2.0,), (0.0,), (1.0,)), 11),  # H_tool 0.5: 16 / (1 + e^-0.75) = 16 * 0.67918 = 10.87
        (((0.0,), (90.0,)), 1),  # 16 / (1 + e^45) = 0.0..., at least one
        (((90.0,), (0.0,)), 16),  # at most all
    ],
)
def test_aepo_plan(windows: tuple[tuple[float, ...], ...], expected: int) -> None:
    rule = AepoRule(AepoRuleConfig(probe_slope=0.5))
    assert rule.plan(16, None, None, FIRST) is None  # one trajectory first
    assert rule.plan(16, None, Probe(windows=windows, normalizer=1.0), FIRST) == expected
    assert rule.plan(16, 5, None, FIRST) == 5  # a configured N needs no probe


def test_aepo_plan_rounds_halves_up() -> None:
    assert AepoRule(AepoRuleConfig()).plan(5, None, Probe(windows=((1.0,),), normalizer=1.0), FIRST) == 3  # 2.5


def test_aepo() -> None:
    rule = AepoRule(AepoRuleConfig(alpha=0.5, gamma=0.2, tau=0.5, penalty_slope=0.05))
    # (0.5 + 0.2 * 0.4) (1 - 0.05 l) = 0.58, 0.551, 0.522, 0.493 for l = 0, 1, 2, 3
    places = [at(n, entropy_delta=0.4, consecutive_branches=n) for n in range(4)]
    assert [rule.score(o) for o in places] == pytest.approx([0.58, 0.551, 0.522, 0.493])
    assert asked(rule.decide(places, Random(0))) == [(0, 1), (1, 1), (2, 1)]
    # the penalty takes at most everything: 1 - min(1, 0.05 * 30) = 0
    assert rule.score(at(entropy_delta=0.4, consecutive_branches=30)) == 0
    # the tree's turns do not matter to it, only the path's own branches
    assert rule.score(at(entropy_delta=0.4, consecutive_rounds=9)) == pytest.approx(0.58)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        # sums 1.6 and 2.4 over the normaliser 2: H_root 0.8, mean of all (0.8 + 1.2) / 2 = 1.0; 16 / (1 + e^0.1) = 7.60: 7 + 1
        (((0.6, 1.0), (1.0, 1.4)), 8),
        (((0.6, 1.0),), 9),  # no tool call: 16 / 2 = 8, and 1
        (((90.0,), (0.0,)), 16),  # 22.5 above the mean: 16 + 1, at most all
        (((0.0,), (900.0,)), 1),
    ],
)
def test_aepo_released_plan(windows: tuple[tuple[float, ...], ...], expected: int) -> None:
    rule = AepoReleasedRule(AepoReleasedRuleConfig())
    assert rule.plan(16, None, None, FIRST) is None
    assert rule.plan(16, None, Probe(windows=windows, normalizer=2.0), FIRST) == expected
    assert rule.plan(16, 8, None, FIRST) == 8


def test_aepo_released() -> None:
    rule = AepoReleasedRule(AepoReleasedRuleConfig())
    # delta (0.9 - 0.7) / 2 = 0.1; 1 + 0.02 - 0.5 / (1 - 0.05 l): l = 0 gives 0.52, l = 2 1.02 - 0.5 / 0.9 = 0.46444
    windows = {"call_entropies": (0.5, 0.4), "initial_entropies": (0.7,), "normalizer": 2.0}
    assert rule.score(at(**windows)) == pytest.approx(0.52)
    assert rule.score(at(**windows, consecutive_rounds=2)) == pytest.approx(0.464444, abs=1e-6)
    assert rule.score(at(**windows, consecutive_branches=2)) == pytest.approx(0.52)  # the group's turns count, not the path's
    assert rule.score(at(**windows, consecutive_rounds=20)) == 0  # the factor 1 - 0.05 * 20 is 0


def test_aepo_released_agrees_with_the_public_code_s_words() -> None:
    """It draws u, multiplies u + w * delta by max(0, 1 - 0.05 l), clips, and goes on without a branch iff that is below 0.5."""
    rule = AepoReleasedRule(AepoReleasedRuleConfig())
    random = Random(0)
    for _ in range(1000):
        delta, u, turns = random.uniform(-3, 3), random.random(), random.randrange(25)
        place = at(call_entropies=(delta,), consecutive_rounds=turns)
        branches = not min(1.0, max(0.0, (u + 0.2 * delta) * max(0.0, 1 - 0.05 * turns))) < 0.5
        # as u and 1 - u have one distribution, the rule's draw is 1 - u
        assert bool(rule.decide([place], Numbers(1 - u))) == branches


def test_random() -> None:
    rule = RandomRule(RandomRuleConfig(rate=(0.5, 0.1), branch_factor=2))
    assert [rule.score(at(turn=t)) for t in (1, 2, 3)] == [0.5, 0.1, 0.1]  # the last rate goes on
    # turn 1: 0.4 and 0.2 are below 0.5; the smaller number first
    assert asked(rule.decide([at(3), at(4), at(5)], Numbers(0.4, 0.6, 0.2))) == [(5, 2), (3, 2)]
    assert RandomRule(RandomRuleConfig(rate=0.25)).score(at(turn=7)) == 0.25


def test_random_has_its_rate() -> None:
    # 4000 draws at 0.3: standard deviation sqrt(0.3 * 0.7 / 4000) = 0.0072
    rule = RandomRule(RandomRuleConfig(rate=0.3))
    assert len(rule.decide([at()] * 4000, Random(0))) / 4000 == pytest.approx(0.3, abs=0.029)


@pytest.mark.parametrize(
    ("entropy", "count"),
    [(0.4, 0), (0.5, 0), (0.51, 1), (1.0, 2), (1.3, 2), (1.99, 3), (2.0, 4), (70.0, 4)],  # floor(H / 0.5), at most 4
)
def test_threshold_fixed(entropy: float, count: int) -> None:
    rule = ThresholdRule(ThresholdRuleConfig(threshold=0.5))
    place = at(entropies=(entropy - 0.1, entropy + 0.1))
    assert rule.score(place) == pytest.approx(entropy - 0.5)
    if entropy != 0.5:  # the mean of two floats need not be 0.5 to the last bit
        assert asked(rule.decide([place], Random(0))) == ([(2, count)] if count else [])


def test_threshold_adaptive() -> None:
    # this turn 0.6, 0.5 and, as two are fewer than three, the turn before 0.4, 0.5; not 9.9: mean 0.5, std sqrt(0.02 / 3)
    # = 0.0816; bound 0.5 + 2 * 0.0816 = 0.6633
    rule = ThresholdRule(ThresholdRuleConfig(num_std=2.0, num_recent=3))
    turns = ((9.9,), (0.4, 0.5), (0.6, 0.5))
    places = [at(n, entropies=(h,), entropies_by_turn=turns) for n, h in ((1, 0.65), (2, 0.7), (3, 1.5))]
    assert [rule.score(o) for o in places] == pytest.approx([-0.013299, 0.036701, 0.836701], abs=1e-6)
    assert asked(rule.decide(places, Random(0))) == [(3, 2), (2, 1)]  # floor(1.5 / 0.6633) = 2
    # three results of one turn are all judged by all three, though one would do
    three = ThresholdRule(ThresholdRuleConfig(num_std=0.0, num_recent=2))
    assert three.score(at(entropies=(0.9,), entropies_by_turn=((5.0, 5.0), (0.3, 0.9, 0.6)))) == pytest.approx(0.3)
    # one result is no sample: no bound, no branch
    assert rule.score(at(entropies=(9.0,), entropies_by_turn=((0.1,),))) is None
    assert rule.decide([at(entropies=(9.0,), entropies_by_turn=((0.1,),))], Random(0)) == []


def test_threshold_where_nothing_was_uncertain() -> None:
    rule = ThresholdRule(ThresholdRuleConfig(max_branches=3))  # the bound is 0: as many as allowed
    assert asked(rule.decide([at(entropies=(0.1,), entropies_by_turn=((0.0, 0.0),))], Random(0))) == [(2, 3)]


def test_token_entropy() -> None:
    rule = TokenEntropyRule(TokenEntropyRuleConfig(branch_factor=2))
    completions = [
        CompletionView(node=1, entropies=(2.0, 0.1, 1.5)),  # the first token of a completion is no place
        CompletionView(node=4, entropies=(0.3, 0.9, 1.5)),
        CompletionView(node=6, entropies=(5.0, 0.0)),  # nor is one without any entropy
    ]
    found = [(r.node, r.offset, r.count, r.priority) for r in rule.decide_inside(completions, 3, Random(0))]
    assert found == [(1, 2, 2, 1.5), (4, 2, 2, 1.5), (4, 1, 2, 0.9)]
    assert len(rule.decide_inside(completions, 99, Random(0))) == 4
    assert rule.decide([at(entropies=(9.0,))], Random(0)) == []


def test_random_token() -> None:
    """The places of `token_entropy`, each pair as likely: of 4 places there are 6, and 6,000 draws of 1,000 each."""
    rule = RandomTokenRule(RandomTokenRuleConfig(branch_factor=2))
    completions = [
        CompletionView(node=1, entropies=(2.0, 0.1, 1.5)),
        CompletionView(node=4, entropies=(0.3, 0.9, 1.5)),
        CompletionView(node=6, entropies=(5.0, 0.0)),
    ]
    places = [(1, 1), (1, 2), (4, 1), (4, 2)]
    found = rule.decide_inside(completions, 99, Random(0))
    assert sorted((r.node, r.offset) for r in found) == places
    assert {r.count for r in found} == {2}
    rng = Random(0)
    drawn = Counter(frozenset((r.node, r.offset) for r in rule.decide_inside(completions, 2, rng)) for _ in range(6000))
    assert set(drawn) == {frozenset(pair) for pair in combinations(places, 2)}
    assert all(abs(n - 1000) < 150 for n in drawn.values())  # 5 deviations of sqrt(6000 * 1/6 * 5/6) = 29
    assert rule.decide([at(entropies=(9.0,))], Random(0)) == []


def view(node: int, path: tuple[int, ...], entropies: list[float], logprobs: list[float]) -> CompletionView:
    return CompletionView(node=node, path=path, entropies=tuple(entropies), logprobs=tuple(logprobs))


def test_appo() -> None:
    """Half-life 1 (gamma 1/2), one trajectory of two completions, worked to the end.

    H     0    1      0    1      0      mean 0.4, deviations -0.4 and 0.6
    ln p  0   -0.5    0   -1      0
    gain  0    0.5    0    0      0      ln p + H
    G     0.25 0.5    0    0      0      mean 0.15, deviations 0.1, 0.35, -0.15, -0.15, -0.15
    Var H: (3 * 0.16 + 2 * 0.36) / 4 = 0.3; Var G: (0.01 + 0.1225 + 3 * 0.0225) / 4 = 0.05.
    Token 1: 0.6 / sqrt(0.3) * 0.35 / sqrt(0.05) = 0.6 * 0.35 / sqrt(0.015) = 1.714643. Token 3 is as unsure, but what follows
    did not gain: z(G) < 0.
    """
    rule = AppoRule(AppoRuleConfig(half_life=1.0))
    one = [view(1, (0,), [0, 1], [0, -0.5]), view(3, (0,), [0, 1, 0], [0, -1, 0])]
    found = [(r.node, r.offset, r.count) for r in rule.decide_inside(one, 9, Random(0))]
    assert found == [(1, 1, 1)]
    assert rule.decide_inside(one, 9, Random(0))[0].priority == pytest.approx(0.21 / math.sqrt(0.015))
    assert rule.decide([at(entropies=(9.0,))], Random(0)) == []


def test_appo_asks_for_the_best_of_each_trajectory() -> None:
    """Long half-life: G is nearly the sum of what is left; unsure tokens that gain come before tokens that lose."""
    entropies, logprobs = [0.1, 0.9, 0.8, 0.7, 0.1, 0.1], [-0.1, -0.5, -0.5, -0.5, -2.0, -0.1]
    # gains 0, 0.4, 0.3, 0.2, -1.9, 0; G -1, -1, -1.4, -1.7, -1.9, 0: only the end is above the mean -1.167, and the first two
    # tokens: of the three unsure ones, token 1 alone
    views = [view(1, (0,), entropies, logprobs), view(2, (1,), entropies, logprobs)]
    many = AppoRule(AppoRuleConfig(half_life=1e9)).decide_inside(views, 9, Random(0))
    assert [(r.node, r.offset) for r in many] == [(1, 1), (2, 1)]
    # gains 0, 0.4, 0.3, 0.2, 0, 0: G 0.9, 0.9, 0.5, 0.2, 0, 0, mean 0.4167: tokens 1 and 2, the first before the second
    logprobs[4] = -0.1
    views = [view(1, (0,), entropies, logprobs), view(2, (1,), entropies, logprobs)]
    for most, expected in ((3, [(1, 1), (1, 2), (2, 1), (2, 2)]), (1, [(1, 1), (2, 1)])):
        rule = AppoRule(AppoRuleConfig(half_life=1e9, branches_per_trajectory=most))
        assert [(r.node, r.offset) for r in rule.decide_inside(views, 9, Random(0))] == expected


def test_appo_scores_a_trajectory_by_itself_and_branches_never() -> None:
    rule = AppoRule(AppoRuleConfig(half_life=1.0))
    one = view(1, (0,), [0, 1, 0, 1, 0], [0, -0.5, 0, -1, 0])
    other = view(2, (1,), [7, 9, 5, 8, 6], [-7, -9, -4, -9, -6])
    alone = rule.decide_inside([one], 9, Random(0))
    assert [r for r in rule.decide_inside([one, other], 9, Random(0)) if r.node == 1] == alone
    branch = view(4, (0, 3, 0), [0, 1, 0, 1, 0], [0, -0.5, 0, -1, 0])
    assert rule.decide_inside([one, branch], 9, Random(0)) == []
    # nothing is unsure, or every token was as likely as the policy expected: z is 0, no fork
    for h, p in (
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.5, 0.5, 0.5], [-0.5, -0.2, -0.5]),
        ([0.2, 0.7, 0.1], [-0.2, -0.7, -0.1]),
        ([1.0], [-1.0]),
    ):
        assert rule.decide_inside([view(1, (0,), h, p)], 9, Random(0)) == []


def test_appo_gains_are_those_of_a_sharper_policy() -> None:
    """d/dd ln pi_d(a) at d = 0, pi_d ~ pi^(1 + d), is ln pi(a) + H: by a difference quotient on (0.5, 0.3, 0.2)."""
    p, d = (0.5, 0.3, 0.2), 1e-6
    entropy = -sum(x * math.log(x) for x in p)
    for x in p:
        quotient = (math.log(x ** (1 + d) / sum(y ** (1 + d) for y in p)) - math.log(x)) / d
        assert quotient == pytest.approx(math.log(x) + entropy, abs=1e-5)


@pytest.mark.parametrize(
    ("past", "num_initial"),
    [
        # M = 16, s = 0.75, q = 0.5, w = 2: p = (m + 1) / (g + 2), N = 16 - floor(12 p + 0.5)
        ((0, 0), 10),  # 1/2: 6 branches
        ((1, 1), 8),  # 2/3: 8
        ((1, 0), 12),  # 1/3: 4
        ((4, 3), 8),  # 4/6: 8
        ((4, 0), 14),  # 1/6: 2
        ((3, 1), 11),  # 2/5: 4.8, 5
        ((98, 98), 4),  # 99/100: 11.88, 12, the most
        ((98, 0), 16),  # 1/100: 0.12, none
    ],
)
def test_mixed_outcomes_plans_by_the_tasks_earlier_groups(past: tuple[int, int], num_initial: int) -> None:
    rule = MixedOutcomesRule(MixedOutcomesRuleConfig())
    known = PastGroups(num_groups=past[0], num_mixed=past[1])
    assert rule.plan(16, None, None, known) == num_initial
    # the prior alone, at a weight that no group outweighs: 16 - floor(0.5 * 16 * 0.25 + 0.5) = 14
    fixed = MixedOutcomesRule(MixedOutcomesRuleConfig(prior=0.25, prior_groups=1e9, max_branch_share=0.5))
    assert fixed.plan(16, None, None, known) == 14
    # a group of two, of which all would branch: one trajectory stays
    assert MixedOutcomesRule(MixedOutcomesRuleConfig(prior=1.0, max_branch_share=1.0)).plan(2, None, None, FIRST) == 1


def test_mixed_outcomes_branches_where_entropy_rose() -> None:
    rule = MixedOutcomesRule(MixedOutcomesRuleConfig(branch_factor=2))
    places = [at(1, entropy_delta=-0.1), at(2, entropy_delta=0.0), at(3, entropy_delta=0.1), at(4, entropy_delta=0.3)]
    assert [rule.score(o) for o in places] == [-0.1, 0.0, 0.1, 0.3]
    assert asked(rule.decide(places, Random(0))) == [(4, 2), (3, 2)]
    # the same places as ARPO's rule with its published constants, in the same order
    arpo = ArpoRule(ArpoRuleConfig(branch_factor=2))
    assert asked(arpo.decide(places, Random(0))) == [(4, 2), (3, 2)]


def test_history_counts_branches_in_a_row() -> None:
    """A path of four results, forked at the first, third and fourth; a second path forked at none."""
    task = Task(id="t", messages=(Message(role="user", content="q"),), references=("a",), source="test")
    tree, history = RolloutTree.from_prompt(task, [1]), BranchHistory()

    def result(below: Any) -> Any:
        return tree.append(tree.append(below, NodeKind.COMPLETION, [2]), NodeKind.OBSERVATION, [3])

    path = [tree.root]
    for turn in range(1, 6):
        path.append(result(path[-1]))
        expected = {1: 0, 2: 1, 3: 0, 4: 1, 5: 2}[turn]
        assert history.consecutive_branches(tree, path[turn]) == expected
        assert history.consecutive_rounds(turn) == expected
        if turn in (1, 3, 4):
            history.record_fork(path[turn])
    begun_as_the_fork_at_4 = result(path[4])
    assert history.consecutive_branches(tree, begun_as_the_fork_at_4) == 2
    other = result(result(tree.root))
    assert history.consecutive_branches(tree, other) == 0
    assert history.consecutive_rounds(2) == 1  # of the tree, not of this path
    # paths of up to 5 results end in round 6, where a fill is gained; its first result comes in round 7, its second in 8
    history.record_fill(5)
    assert [history.round_of(turn) for turn in (1, 2)] == [7, 8]
    assert [history.consecutive_rounds(turn) for turn in (1, 2)] == [1, 0]


def test_the_windowed_entropy_is_a_mean() -> None:
    assert at(entropies=(0.9, 0.3, 0.6)).entropy == pytest.approx(0.6)
    assert math.isclose(at(entropies=(0.25,)).entropy, 0.25)


def completion(node: int, entropies: tuple[float, ...], *path: int) -> CompletionView:
    return CompletionView(node=node, entropies=entropies, path=path)


def test_eptree_takes_the_tokens_of_each_tree() -> None:
    # tree 0: 2.0 stands first and does not count, then 1.5 and 0.1; its branch (0, 9, 0) has 1.2; tree 1: 1.0 and 0.9
    views = [
        completion(3, (2.0, 0.1, 1.5), 0), completion(7, (0.3, 1.2), 0, 9, 0),
        completion(5, (0.3, 0.9, 1.0), 1), completion(6, (5.0, 0.0), 1),
    ]  # fmt: skip
    one = EptreeRule(EptreeRuleConfig(tokens_per_tree=1, branch_factor=3))
    assert [(r.node, r.offset, r.count) for r in one.decide_inside(views, 6, Random(0))] == [(3, 2, 3), (5, 2, 3)]
    two = EptreeRule(EptreeRuleConfig(tokens_per_tree=2, branch_factor=1))
    found = two.decide_inside(views, 4, Random(0))
    assert [(r.node, r.offset, r.priority) for r in found] == [(3, 2, 1.5), (7, 1, 1.2), (5, 2, 1.0), (5, 1, 0.9)]


def test_random_node_draws_n_of_each_tree() -> None:
    # positions 0 to 2 are nodes of tree 0, 3 of tree 1, 4 and 5 of tree 7
    nodes = [NodeView(tree=t, turn=turn) for t, turn in ((0, 0), (0, 1), (0, 2), (1, 0), (7, 0), (7, 1))]
    drawn = RandomNodeRule(RandomNodeRuleConfig(nodes_per_tree=2)).choose_nodes(nodes, 99, Random(0))
    assert Counter(nodes[i].tree for i in drawn) == {0: 2, 1: 2, 7: 2}
    assert drawn.count(3) == 2  # with replacement


def test_random_node_draws_uniformly_from_random_trees() -> None:
    """30 trees shapes of 1 to 8 nodes, 400 draws each: chi-square of all cells below its 0.999 quantile, by Wilson-Hilferty."""
    rule = RandomNodeRule(RandomNodeRuleConfig(nodes_per_tree=2))
    random, chi_square, freedom = Random(1), 0.0, 0
    for _ in range(30):
        sizes = [random.randint(1, 8) for _ in range(3)]
        nodes = [NodeView(tree=t, turn=turn) for t, size in enumerate(sizes) for turn in range(size)]
        counts = Counter(i for seed in range(200) for i in rule.choose_nodes(nodes, 99, Random(f"{sizes} {seed}")))
        for position, node in enumerate(nodes):
            expected = 400 / sizes[node.tree]
            chi_square += (counts[position] - expected) ** 2 / expected
        freedom += sum(size - 1 for size in sizes)
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3
    assert chi_square < quantile


def test_a_partial_round_of_random_node_favours_no_tree() -> None:
    """Of 4 draws of two trees the first 2 count: each tree gets half of them, 1,000 of 2,000 +- 5 sigma."""
    nodes = [NodeView(tree=t, turn=turn) for t, turn in ((0, 0), (0, 1), (0, 2), (1, 0))]
    rule = RandomNodeRule(RandomNodeRuleConfig(nodes_per_tree=2))
    first = Counter(nodes[i].tree for seed in range(1000) for i in rule.choose_nodes(nodes, 2, Random(seed))[:2])
    assert abs(first[0] - 1000) < 5 * math.sqrt(2000 / 4)
