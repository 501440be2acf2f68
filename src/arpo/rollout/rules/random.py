"""The control: branching that looks at nothing."""

from collections.abc import Sequence
from random import Random

from arpo.rollout.config import RandomRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity


class RandomRule(BranchRule):
    """Branch with a fixed probability per turn, whatever the entropy.

    Formula: Branch(Z) with probability rate[turn - 1], the last rate going on. Given the rates another rule was measured to
    have, it tells branching from branching *where the model is unsure*. Requests compete in random order.

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
        """Seeded draws; the smaller the number drawn, the earlier served."""
        drawn = [(o, rng.random()) for o in opportunities]
        count = self._config.branch_factor
        return [ForkRequest(node=o.node, count=count, priority=-x) for o, x in drawn if x < self.score(o)]
