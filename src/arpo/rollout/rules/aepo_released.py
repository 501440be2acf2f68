"""The rule of the public AEPO code."""

from statistics import fmean

from arpo.rollout.config import AepoReleasedRuleConfig
from arpo.rollout.rules.aepo import sigmoid
from arpo.rollout.rules.base import Opportunity, PastGroups, Probe
from arpo.rollout.rules.released import ReleasedRule


class AepoReleasedRule(ReleasedRule):
    """Branch with probability P = clip(1 + w delta - p / (1 - penalty_slope l), 0, 1); p = branch_probability, w = weight.

    Source: the public AEPO code, which draws u from U(0, 1) and branches iff (u + w delta) max(0, 1 - penalty_slope l) >= p:
    not the paper's product, but equal to it at l = 0: 0.5 + 0.2 delta. l counts the rounds in a row in which the *group* gained
    a path, by a fork or by a trajectory that fills it. Without a configured N, N = min(M, max(1, floor(M sigmoid(probe_slope
    (H_root - H_mean))) + 1)), where H_mean is the mean over all completions of the probe, the first included; the shipped
    scripts switch the probe off and set N. Stated exceptions: the baseline belongs to the path, as for `arpo_released`; the
    probe, which the code throws away, stays a leaf and is one of the N; l restarts at 0 in any round in which the group gains
    no path (there only if another group of the batch gains one).

    Example: p 0.5, w 0.2, slope 0.05: delta 0.1 and l = 2 give 1 + 0.02 - 0.5 / 0.9 = 0.464.
    """

    def __init__(self, config: AepoReleasedRuleConfig):
        super().__init__(config)
        self._penalty_slope = config.penalty_slope
        self._probe_slope = config.probe_slope

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None, past: PastGroups) -> int | None:
        """The configured N, else N from the probe."""
        if num_initial is not None or probe is None:
            return num_initial
        entropies = [self._reduce(window) / probe.normalizer for window in probe.windows]
        share = sigmoid(self._probe_slope * (entropies[0] - fmean(entropies)))
        return min(group_size, max(1, int(group_size * share) + 1))

    def score(self, opportunity: Opportunity) -> float:
        """The probability of a branch."""
        keep = 1 - self._penalty_slope * opportunity.consecutive_rounds
        if keep <= 0:
            return 0.0
        config = self._config
        needed = config.branch_probability / keep - config.entropy_weight * self._delta(opportunity)
        return min(1.0, max(0.0, 1 - needed))
