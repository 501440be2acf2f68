"""Branch rules are pure functions; the paper's compares alpha + beta * entropy_delta with tau."""

from random import Random

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.rollout.config import ArpoRuleConfig, NoBranchingConfig, RolloutConfig
from arpo.rollout.rules import BRANCH_RULES, ArpoRule, ForkRequest, NoBranching, Opportunity, build_rule


def at(node: int, delta: float) -> Opportunity:
    return Opportunity(node=node, turn=1, entropy_delta=delta)


def test_arpo_hand_worked() -> None:
    rule = ArpoRule(ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.5))
    # 0.5 + 0.2 * 0.08 = 0.516 > 0.5; 0.5 + 0.2 * -0.01 = 0.498; at 0 exactly 0.5, which is not above tau
    assert rule.score(at(3, 0.08)) == pytest.approx(0.516)
    assert rule.decide([at(3, 0.08), at(4, -0.01), at(5, 0.0)], Random(0)) == [
        ForkRequest(node=3, count=1, priority=pytest.approx(0.516))
    ]


def test_branch_factor_is_the_number_of_new_paths() -> None:
    rule = ArpoRule(ArpoRuleConfig(branch_factor=3))
    assert [r.count for r in rule.decide([at(1, 1.0), at(2, 2.0)], Random(0))] == [3, 3]


def test_priority_orders_as_entropy_does() -> None:
    requests = ArpoRule(ArpoRuleConfig(tau=-9.0)).decide([at(1, 0.1), at(2, 0.3), at(3, -0.2)], Random(0))
    assert [r.node for r in sorted(requests, key=lambda r: -r.priority)] == [2, 1, 3]


def test_no_branching_starts_everything_at_the_prompt() -> None:
    rule = NoBranching(NoBranchingConfig())
    assert rule.plan(8, 8) == 8
    assert rule.score(at(1, 5.0)) is None
    assert rule.decide([at(1, 5.0)], Random(0)) == []


def test_arpo_starts_the_configured_number() -> None:
    assert ArpoRule(ArpoRuleConfig()).plan(8, 3) == 3


@pytest.mark.parametrize("config", [NoBranchingConfig(), ArpoRuleConfig()])
def test_the_registry_builds_what_a_configuration_names(config: NoBranchingConfig | ArpoRuleConfig) -> None:
    assert type(build_rule(config)) is BRANCH_RULES[config.type]


def test_the_number_of_initial_trajectories_is_resolved() -> None:
    assert RolloutConfig(group_size=16).num_initial == 8
    assert RolloutConfig(group_size=1).num_initial == 1
    assert RolloutConfig(group_size=16, num_initial_trajectories=5).num_initial == 5
    assert RolloutConfig(group_size=16, rule=NoBranchingConfig()).num_initial == 16


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"group_size": 4, "num_initial_trajectories": 5}, "exceeds group_size = 4"),
        ({"group_size": 4, "num_initial_trajectories": 2, "rule": {"type": "none"}}, "has no effect"),
        ({"rule": {"type": "none", "alpha": 0.5}}, "unknown key"),
    ],
)
def test_settings_without_effect_are_refused(data: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(RolloutConfig, data, "test")
