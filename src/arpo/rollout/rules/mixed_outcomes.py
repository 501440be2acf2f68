"""A budget of branches per task that follows how often its groups were mixed; a rule of our own."""

import math
from collections.abc import Sequence
from random import Random

from arpo.rollout.config import MixedOutcomesRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity, PastGroups, Probe


class MixedOutcomesRule(BranchRule):
    """The more often the groups of a task were mixed, the more of its next group are branches; they fork where entropy rose.

    Formula: p = (m + w q) / (g + w) with m of g earlier groups mixed (right and wrong answers), prior q and its weight w in
    groups; N = M - floor(s M p + 1/2), at least 1, with s = max_branch_share: budget M - N. Branch(Z) iff entropy_delta > 0, as
    ARPO's rule with alpha = tau; the highest change is served first. Source: our own. Where a task is sometimes solved,
    branches compare continuations of one prefix; where it is always or never solved, those mostly agree, and trajectories from
    the prompt look further for the other outcome.

    Example: M = 16, s = 0.75, q = 0.5, w = 2. No earlier group: p = 0.5, N = 16 - floor(6.5) = 10. Three of four mixed:
    p = 4/6, N = 16 - floor(8.5) = 8. None of four: p = 1/6, N = 16 - floor(2.5) = 14.
    """

    uses_past_groups = True

    def __init__(self, config: MixedOutcomesRuleConfig):
        self._config = config
        self.max_branches = config.branch_factor

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None, past: PastGroups) -> int:
        """N from the earlier groups of the task; a configured N is refused before."""
        config = self._config
        expected = (past.num_mixed + config.prior_groups * config.prior) / (past.num_groups + config.prior_groups)
        return max(1, group_size - math.floor(config.max_branch_share * group_size * expected + 0.5))

    def score(self, opportunity: Opportunity) -> float:
        """The change of entropy."""
        return opportunity.entropy_delta

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """One request per opportunity where entropy rose."""
        count = self._config.branch_factor
        return [ForkRequest(node=o.node, count=count, priority=o.entropy_delta) for o in opportunities if o.entropy_delta > 0]
