"""Branch rules: pure functions from what was measured to where a tree forks."""

from arpo.rollout.config import BranchRuleConfig
from arpo.rollout.rules.aepo import AepoRule
from arpo.rollout.rules.aepo_released import AepoReleasedRule
from arpo.rollout.rules.appo import AppoRule
from arpo.rollout.rules.arpo import ArpoRule
from arpo.rollout.rules.arpo_released import ArpoReleasedRule
from arpo.rollout.rules.base import BranchRule, CompletionView, ForkRequest, NodeView, Opportunity, PastGroups, Probe
from arpo.rollout.rules.eptree import EptreeRule
from arpo.rollout.rules.mixed_outcomes import MixedOutcomesRule
from arpo.rollout.rules.none import NoBranching
from arpo.rollout.rules.random import RandomRule
from arpo.rollout.rules.random_node import RandomNodeRule
from arpo.rollout.rules.random_token import RandomTokenRule
from arpo.rollout.rules.threshold import ThresholdRule
from arpo.rollout.rules.token_entropy import TokenEntropyRule

BRANCH_RULES = {
    "none": NoBranching,
    "arpo": ArpoRule,
    "arpo_released": ArpoReleasedRule,
    "aepo": AepoRule,
    "aepo_released": AepoReleasedRule,
    "random": RandomRule,
    "threshold": ThresholdRule,
    "token_entropy": TokenEntropyRule,
    "random_token": RandomTokenRule,
    "eptree": EptreeRule,
    "random_node": RandomNodeRule,
    "appo": AppoRule,
    "mixed_outcomes": MixedOutcomesRule,
}
"""Rule type in the configuration -> class."""


def build_rule(config: BranchRuleConfig) -> BranchRule:
    """The rule a configuration names."""
    return BRANCH_RULES[config.type](config)  # pyright: ignore[reportArgumentType]


__all__ = [
    "BRANCH_RULES",
    "AepoReleasedRule",
    "AepoRule",
    "AppoRule",
    "ArpoReleasedRule",
    "ArpoRule",
    "BranchRule",
    "CompletionView",
    "EptreeRule",
    "ForkRequest",
    "MixedOutcomesRule",
    "NoBranching",
    "NodeView",
    "Opportunity",
    "PastGroups",
    "Probe",
    "RandomNodeRule",
    "RandomRule",
    "RandomTokenRule",
    "ThresholdRule",
    "TokenEntropyRule",
    "build_rule",
]
