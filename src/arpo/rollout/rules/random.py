"""The control: branching at random."""

from collections.abc import Sequence
from random import Random

from arpo.rollout.config import RandomRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity


class RandomRule(BranchRule):
    """Branch with a fixed probability per turn, whatever the entropy.

    Formula: Branch(Z) with probability rate[turn - 1]; the last rate holds for later turns. With the measured rates of another
    rule it separates branching from branching *where the model is unsure*. Requests compete in random order.

    Example: rate [0.5, 0.1]: every other first tool result forks, and every tenth later one.
    """

    def __init__(self, config: RandomRuleConfig):
        self._config = config
        self.max_branches = config.branch_factor

    def score(self, opportunity: Opportunity) -> float:
        """The rate of the turn."""
        rate = self._config.rate
        return rate[min(opportunity.turn, len(rate)) - 1] if isinstance(rate, tuple) else rate

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """One seeded draw per opportunity; smaller draws are served first."""
        drawn = [(o, rng.random()) for o in opportunities]
        count = self._config.branch_factor
        return [ForkRequest(node=o.node, count=count, priority=-x) for o, x in drawn if x < self.score(o)]
