"""The rule of the public ARPO code."""

from arpo.rollout.rules.base import Opportunity
from arpo.rollout.rules.released import ReleasedRule


class ArpoReleasedRule(ReleasedRule):
    """Branch with probability P = clip(branch_probability + entropy_weight * delta, 0, 1).

    Source: `vllm_rollout_with_tools.py` of the public code, which draws u from U(0, 1) and branches iff
    clip(u - entropy_weight * delta, 0, 1) <= branch_probability. Its options `lag`, `sum_over_window` and the estimator `top_k`
    hold by default. Stated exception: the public code keeps one baseline per row of the batch and never clears it, so that it
    compares later batches with other tasks; here the baseline is the window of the path's initial trajectory.

    Example: probability 0.5, weight 0.2: a delta of 0.5 gives P = 0.6, of -3 gives 0 (0.5 - 0.6 < 0).
    """

    def score(self, opportunity: Opportunity) -> float:
        """The probability of a branch."""
        config = self._config
        return min(1.0, max(0.0, config.branch_probability + config.entropy_weight * self._delta(opportunity)))
