"""The rule of the ARPO paper."""

from collections.abc import Sequence
from random import Random

from arpo.rollout.config import ArpoRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity


class ArpoRule(BranchRule):
    """Branch where entropy rose enough after a tool result.

    Formula: P = alpha + beta * entropy_delta; Branch(Z) iff P > tau, else continue. Source: ARPO, arXiv:2507.19849, section 3.
    Stated choices: Z counts the new paths without the original; when the budget does not suffice for every request of a turn,
    the largest P is served first.

    Example: alpha 0.5, beta 0.2, tau 0.5: a delta of +0.08 gives P = 0.516 > 0.5, a branch; -0.01 gives 0.498, no branch.
    """

    def __init__(self, config: ArpoRuleConfig):
        self._config = config
        self.max_branches = config.branch_factor

    def score(self, opportunity: Opportunity) -> float:
        """P = alpha + beta * entropy_delta."""
        return self._config.alpha + self._config.beta * opportunity.entropy_delta

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """One request per opportunity whose P exceeds tau."""
        scored = [(o, self.score(o)) for o in opportunities]
        return [
            ForkRequest(node=o.node, count=self._config.branch_factor, priority=p) for o, p in scored if p > self._config.tau
        ]
