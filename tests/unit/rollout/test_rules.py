"""Branch rules are registered, configured and refused as they should be; their arithmetic is in tests/golden."""

from random import Random

import pytest

from arpo.config import dump_config, load_config, parse_config
from arpo.errors import ConfigError
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
    RolloutConfig,
    ThresholdRuleConfig,
    TokenEntropyRuleConfig,
)
from arpo.rollout.entropy import require_estimator
from arpo.rollout.rules import BRANCH_RULES, Opportunity, build_rule

CONFIGS = [
    NoBranchingConfig(),
    ArpoRuleConfig(),
    ArpoReleasedRuleConfig(),
    AepoRuleConfig(),
    AepoReleasedRuleConfig(),
    RandomRuleConfig(rate=(0.5, 0.25)),
    ThresholdRuleConfig(),
    TokenEntropyRuleConfig(),
    RandomTokenRuleConfig(),
    EptreeRuleConfig(),
    RandomNodeRuleConfig(),
    AppoRuleConfig(),
    MixedOutcomesRuleConfig(),
]


def test_every_rule_is_here() -> None:
    assert {c.type for c in CONFIGS} == set(BRANCH_RULES)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.type)
def test_the_registry_builds_what_a_configuration_names(config, tmp_path) -> None:
    assert type(build_rule(config)) is BRANCH_RULES[config.type]
    rollout = RolloutConfig(rule=config)
    (tmp_path / "rollout.toml").write_text(dump_config(rollout))
    assert load_config(RolloutConfig, tmp_path / "rollout.toml") == rollout


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.type)
def test_nothing_to_decide_nothing_asked_for(config) -> None:
    assert build_rule(config).decide([], Random(0)) == []
    assert build_rule(config).decide_inside([], 5, Random(0)) == []


def test_the_number_of_initial_trajectories_is_resolved() -> None:
    assert RolloutConfig(group_size=16).num_initial_trajectories == 8
    assert RolloutConfig(group_size=3).num_initial_trajectories == 1
    assert RolloutConfig(group_size=1, rule=NoBranchingConfig()).num_initial_trajectories == 1
    assert RolloutConfig(group_size=16, num_initial_trajectories=5).num_initial_trajectories == 5
    assert RolloutConfig(group_size=16, rule=NoBranchingConfig()).num_initial_trajectories == 16
    assert RolloutConfig(group_size=16, rule=AepoRuleConfig()).num_initial_trajectories is None
    assert RolloutConfig(group_size=16, rule=AepoReleasedRuleConfig(), num_initial_trajectories=8).num_initial_trajectories == 8


def test_the_estimator_is_resolved() -> None:
    """As the public code for its rules: top 10; else exact, over all of the vocabulary."""
    assert (RolloutConfig().entropy_estimator, RolloutConfig().top_k) == ("exact", None)
    released = RolloutConfig(rule=ArpoReleasedRuleConfig())
    assert (released.entropy_estimator, released.top_k) == ("top_k", 10)
    exact = RolloutConfig(rule=ArpoReleasedRuleConfig(), entropy_estimator="exact")
    assert (exact.entropy_estimator, exact.top_k) == ("exact", None)
    assert RolloutConfig(entropy_estimator="top_k", entropy_top_k=3).top_k == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"group_size": 4, "num_initial_trajectories": 5}, "exceeds group_size = 4"),
        ({"group_size": 4, "num_initial_trajectories": 2, "rule": {"type": "none"}}, "has no effect"),
        ({"group_size": 4, "num_initial_trajectories": 4, "rule": {"type": "random"}}, "could not branch"),
        (
            {"rule": {"type": "none", "alpha": 0.5}},
            r"rule\.alpha = 0\.5 has no effect .* set rule\.type = 'arpo' or 'aepo'$",
        ),
        (
            {"rule": {"type": "aepo", "beta": 0.2}},
            r"rule\.beta = 0\.2 has no effect .* set rule\.type = 'arpo'$",
        ),
        ({"entropy_top_k": 9}, "entropy_top_k = 9 has no effect with entropy_estimator = 'exact'"),
        ({"entropy_normalizer": "paper", "rule": {"type": "arpo_released"}}, "'paper' has no meaning"),
        (
            {"rule": {"type": "threshold", "threshold": 0.5, "num_std": 2}},
            "num_std = 2.0 has no effect with rule.threshold",
        ),
        ({"rule": {"type": "threshold", "threshold": 0.5, "num_recent": 9}}, "num_recent = 9 has no effect"),
        ({"rule": {"type": "threshold", "threshold": 0}}, "a number above 0 or 'adaptive'"),
        ({"group_size": 1}, r"rollout\.group_size = 1 with rule\.type = 'arpo': .* could branch; set it to 2 or more"),
        ({"group_size": 1, "rule": {"type": "aepo"}}, r"rollout\.group_size = 1 with rule\.type = 'aepo'"),
        ({"rule": {"type": "arpo", "beta": 0.5}}, r"rule\.beta = 0\.5 has no effect with rule\.alpha = rule\.tau.* tau apart"),
        (
            {"rule": {"type": "mixed_outcomes"}, "num_initial_trajectories": 4},
            r"num_initial_trajectories = 4 with rule\.type = 'mixed_outcomes', .* leave it out, or choose rule\.type = 'arpo'",
        ),
        (
            {"rule": {"type": "mixed_outcomes"}, "entropy_normalizer": "none"},
            r"'none' has no effect .* leave it at 'log_vocab'",
        ),
        (
            {"rule": {"type": "mixed_outcomes", "max_branch_share": 0.1}, "group_size": 4},
            r"rule\.max_branch_share = 0\.1 of group_size = 4 is less than half a trajectory, so nothing could branch",
        ),
        (
            {"rule": {"type": "appo"}, "entropy_estimator": "surprisal"},
            r"'surprisal' with rule\.type = 'appo': .* would be 0 everywhere .* set it to 'exact' or 'top_k'",
        ),
        (
            {"rule": {"type": "appo", "branches_per_trajectory": 5}, "group_size": 6, "num_initial_trajectories": 2},
            r"rule\.branches_per_trajectory = 5 has no effect at 4 or more, as .*; leave it at 4, or raise",
        ),
        ({"entropy_normalizer": "none"}, r"entropy_normalizer = 'none' has no effect with rule\.alpha = rule\.tau"),
        ({"rule": {"type": "arpo", "beta": 0.0}}, r"rule\.beta = 0 .* could branch; set beta above 0"),
        (
            {"num_initial_trajectories": 8, "rule": {"type": "aepo", "probe_slope": 0.4}},
            r"rule\.probe_slope = 0\.4 has no effect with num_initial_trajectories = 8",
        ),
        ({"rule": {"type": "random", "rate": 1.5}}, "a number from 0 to 1"),
        ({"rule": {"type": "random", "rate": []}}, "a list of 1 or more"),
        ({"rule": {"type": "arpo_released", "branch_probability": -1}}, "a number from 0 to 1"),
        ({"rule": {"type": "arpoo"}}, "arpo_released"),
    ],
)
def test_settings_without_effect_or_meaning_are_refused(data: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(RolloutConfig, data, "test")


@pytest.mark.parametrize(
    "data",
    [
        {"group_size": 1, "rule": {"type": "none"}},
        {"rule": {"type": "arpo", "beta": 0.5, "tau": 0.6}, "entropy_normalizer": "none"},
        {"rule": {"type": "arpo", "beta": -0.2}},
        {"entropy_normalizer": "paper"},
        {"rule": {"type": "arpo", "beta": 0.0, "alpha": 0.6}},
        {"num_initial_trajectories": 8, "rule": {"type": "aepo", "probe_slope": 0.5}},
        {"rule": {"type": "aepo", "probe_slope": 0.4, "gamma": 0.5}},
    ],
)
def test_settings_with_an_effect_are_accepted(data: dict[str, object]) -> None:
    parse_config(RolloutConfig, data, "test")


def test_an_estimator_the_engine_lacks_is_refused() -> None:
    exact, top_k = RolloutConfig(), RolloutConfig(entropy_estimator="top_k")
    require_estimator(exact, ("exact", "top_k"))
    require_estimator(top_k, ("top_k",))
    require_estimator(RolloutConfig(entropy_estimator="surprisal"), ("top_k",))
    require_estimator(RolloutConfig(rule=NoBranchingConfig()), ("top_k",))  # no decision hangs on it
    with pytest.raises(ConfigError, match=r"entropy_estimator = 'exact': .* set it to 'top_k' or 'surprisal'"):
        require_estimator(exact, ("top_k",))
    with pytest.raises(ConfigError, match=r"entropy_estimator = 'top_k': .* set it to 'exact' or 'surprisal'"):
        require_estimator(top_k, ("exact",))


@pytest.mark.parametrize("num_recent", [2, 3, 20])
def test_an_adaptive_threshold_knows_no_order_of_paths(num_recent: int) -> None:
    """On 200 trees of 6 paths and 3 turns, as a group asks: whatever the order of the paths, the same ones branch; all may."""
    rule = build_rule(ThresholdRuleConfig(num_recent=num_recent))
    first_turn = set[int]()
    for seed in range(200):
        random = Random(seed)
        entropies = [[random.expovariate(1) for _ in range(6)] for _ in range(3)]
        orders = [list(range(6)), random.sample(range(6), 6)]
        forked: list[list[set[tuple[int, int]]]] = []
        for order in orders:
            by_turn: list[tuple[float, ...]] = []
            forked.append([])
            for turn, of_paths in enumerate(entropies, start=1):
                by_turn.append(tuple(of_paths[p] for p in order))
                places = [
                    Opportunity(
                        node=p, turn=turn, entropies=(of_paths[p],), call_entropies=(0.0,), initial_entropies=(0.0,),
                        entropy_delta=0.0, normalizer=1.0, entropies_by_turn=tuple(by_turn), consecutive_branches=0,
                        consecutive_rounds=0,
                    )
                    for p in order
                ]  # fmt: skip
                forked[-1].append({(r.node, r.count) for r in rule.decide(places, Random(0))})
        assert forked[0] == forked[1]
        first_turn |= {path for path, _ in forked[0][0]}
    assert first_turn == set(range(6))
