"""The measurement and the draw that the public ARPO code and the public AEPO code share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random

from arpo.rollout.config import ReleasedRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity


class ReleasedRule(BranchRule, ABC):
    """Branch with a probability that grows with entropy; a subclass computes it in `score`.

    A path gets `branch_factor` tries. Opportunities are served in the order of the paths, as rows are in the public code. As
    there, a group in which every path has ended gets one fresh trajectory, which branches like the others, and so on until it
    is full. Stated exception: the code tries no more often than leaves are missing, here `branch_factor` times.
    """

    fills_branch = True

    def __init__(self, config: ReleasedRuleConfig):
        self._config = config
        self.max_branches = config.branch_factor

    @abstractmethod
    def score(self, opportunity: Opportunity) -> float:
        """The probability of a branch, in [0, 1]."""

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """Seeded Bernoulli draws."""
        requests: list[ForkRequest] = []
        for opportunity in opportunities:
            probability = self.score(opportunity)
            count = sum(rng.random() < probability for _ in range(self._config.branch_factor))
            if count:
                requests.append(ForkRequest(node=opportunity.node, count=count, priority=0.0))
        return requests

    def _delta(self, opportunity: Opportunity) -> float:
        """Change of the released code's entropy from the baseline, over the normaliser.

        With `lag` it measures the completion that ended in the call: the result just read has no effect, and the change of the
        first turn is 0. With `sum_over_window` entropies are summed, not averaged, so that a short turn looks certain.
        """
        measured = opportunity.call_entropies if self._config.lag else opportunity.entropies
        return (self._reduce(measured) - self._reduce(opportunity.initial_entropies)) / opportunity.normalizer

    def _reduce(self, window: Sequence[float]) -> float:
        return math.fsum(window) / (1 if self._config.sum_over_window else len(window))
