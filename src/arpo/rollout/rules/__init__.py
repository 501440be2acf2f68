"""Branch rules: pure functions from what was measured to where a tree forks."""

from arpo.rollout.config import BranchRuleConfig
from arpo.rollout.rules.arpo import ArpoRule
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity
from arpo.rollout.rules.none import NoBranching

BRANCH_RULES = {"none": NoBranching, "arpo": ArpoRule}
"""Rule type in the configuration -> class."""


def build_rule(config: BranchRuleConfig) -> BranchRule:
    """The rule a configuration names."""
    return BRANCH_RULES[config.type](config)


__all__ = ["BRANCH_RULES", "ArpoRule", "BranchRule", "ForkRequest", "NoBranching", "Opportunity", "build_rule"]
