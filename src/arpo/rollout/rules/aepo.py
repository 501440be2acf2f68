"""The rule of the AEPO paper."""

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean

from arpo.rollout.config import AepoRuleConfig
from arpo.rollout.rules.base import BranchRule, ForkRequest, Opportunity, PastGroups, Probe


class AepoRule(BranchRule):
    """Entropy pre-monitoring, and a penalty on consecutive branches.

    Formula: N = round(M sigmoid(probe_slope (H_root - H_tool))) in [1, M], from a probe trajectory with windowed entropy H_root
    at the question and mean H_tool after its tool results, nats; a probe without tool calls has H_tool = H_root. Then
    P = (alpha + gamma * entropy_delta) (1 - penalty(l)), penalty(l) = min(1, penalty_slope * l), l = consecutive branches on
    the path; Branch(Z) iff P > tau. Source: AEPO, arXiv:2510.14545. Stated choices: the probe stays a leaf and is one of the N;
    halves are rounded up; a configured N needs no probe.

    Example: M = 16, slope 0.5, H_root 0.8, H_tool 1.2: 16 sigmoid(-0.2) = 16 * 0.4502 = 7.2, N = 7. alpha 0.5, gamma 0.2, a
    delta of 0.4 after two branches in a row: (0.5 + 0.08) * (1 - 0.1) = 0.522 > 0.5, a branch; after three 0.493, no branch.
    """

    def __init__(self, config: AepoRuleConfig):
        self._config = config
        self.max_branches = config.branch_factor

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None, past: PastGroups) -> int | None:
        """The configured N, else N from the probe."""
        if num_initial is not None or probe is None:
            return num_initial
        root, *after_tools = [fmean(window) for window in probe.windows]
        after_tool = fmean(after_tools) if after_tools else root
        share = sigmoid(self._config.probe_slope * (root - after_tool))
        return min(group_size, max(1, math.floor(group_size * share + 0.5)))

    def score(self, opportunity: Opportunity) -> float:
        """P = (alpha + gamma * entropy_delta) (1 - penalty)."""
        config = self._config
        penalty = min(1.0, config.penalty_slope * opportunity.consecutive_branches)
        return (config.alpha + config.gamma * opportunity.entropy_delta) * (1 - penalty)

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """One request per opportunity whose P exceeds tau."""
        scored = [(o, self.score(o)) for o in opportunities]
        return [
            ForkRequest(node=o.node, count=self._config.branch_factor, priority=p) for o, p in scored if p > self._config.tau
        ]


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + math.tanh(0.5 * x))
