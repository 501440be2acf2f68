"""Branching where entropy itself, not its change, is high."""

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean, stdev

from arpo.rollout.config import ThresholdRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity


class ThresholdRule(BranchRule):
    """Branch where the windowed entropy after a tool result exceeds a bound, the more often the higher it is.

    Formula: Branch(min(floor(H / bound), max_branches)) iff H > bound, in nats. The bound is `threshold`, or with `adaptive`
    mean + num_std * std (n - 1) over the tool results of this turn and, while these are fewer than `num_recent`, of the turns
    before it. The highest H - bound is served first. Source: our own. Stated choices: turns count whole, so that all results of
    one turn have one bound and the order of the paths decides nothing; with fewer than two results there is no branch.

    Example: bound 0.5, H 1.3: floor(2.6) = 2 new paths. Recent 0.4, 0.6, 0.5 and num_std 1: the bound is 0.5 + 0.1 = 0.6.
    """

    def __init__(self, config: ThresholdRuleConfig):
        self._config = config
        self.max_branches = config.max_branches

    def score(self, opportunity: Opportunity) -> float | None:
        """H - bound, nats; None while there is no bound."""
        bound = self._bound(opportunity)
        return None if bound is None else opportunity.entropy - bound

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """One request per opportunity above its bound."""
        requests: list[ForkRequest] = []
        for opportunity in opportunities:
            bound = self._bound(opportunity)
            if bound is not None and opportunity.entropy > bound:
                ratio = opportunity.entropy / bound if bound > 0 else math.inf
                count = self.max_branches if ratio >= self.max_branches else math.floor(ratio)
                requests.append(ForkRequest(node=opportunity.node, count=count, priority=opportunity.entropy - bound))
        return requests

    def _bound(self, opportunity: Opportunity) -> float | None:
        config = self._config
        if config.threshold != "adaptive":
            return config.threshold
        recent: tuple[float, ...] = ()
        for of_turn in reversed(opportunity.entropies_by_turn):
            if len(recent) < config.num_recent:
                recent += of_turn
        return fmean(recent) + config.num_std * stdev(recent) if len(recent) > 1 else None
