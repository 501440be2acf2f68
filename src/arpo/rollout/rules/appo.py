"""APPO's branching score: fork inside completions where the policy was unsure and what followed grew likely."""

from collections.abc import Sequence
from heapq import nlargest
from itertools import groupby
from operator import itemgetter
from random import Random
from statistics import fmean, stdev

from arpo.rollout.config import AppoRuleConfig
from arpo.rollout.rules.base import BranchRule, CompletionView, ForkRequest


class AppoRule(BranchRule):
    """Fork each initial trajectory before its tokens of the highest branching score, once every path has ended.

    Formula: BS_t = z(clip(Omega_t, 1 - e, 1 + e)) z(H_t), Omega_t = exp(sum_(k >= t) gamma^(k - t) ln(pi'(a_k) / pi(a_k))), z
    over the sampled tokens of one trajectory; the B = `branches_per_trajectory` highest get one new path each, which draws the
    token again; gamma = 2^(-1 / half_life). Source: APPO, arXiv:2606.12384, eq. 4 and 5, algorithm 1 with one loop:
    (B + 1) N = M; half-life 32 (section 4.1).

    The paper's pi' is the policy in the midst of the step's updates, pi the one that sampled. Here a tree grows under one
    policy, so this ratio is 1 and says nothing (the authors' code has the same weights on both sides too: the trainer's
    rounding against the engine's). Our choice: pi' is the sampling policy a little sharper, pi' ~ pi^(1 + d), which is where
    reinforcement learning moves it. To first order in d, ln(pi'(a) / pi(a)) = d (ln pi(a) + H): a token gains by as much as it
    is likelier than the policy expected. As d goes to 0, no clip acts and z(Omega_t) goes to z(G_t), G_t = sum_(k >= t)
    gamma^(k - t) (ln pi(a_k) + H_k), which has no d; the score uses that. So forks go where the choice was open and the rest
    then committed.

    Further choices: both z must be above 0, as in the authors' code, since two low values have a high product too; distances
    count sampled tokens, so that a long result does not cut a turn off; z with n - 1; no fork before the tokens that
    `CompletionView.forkable` excludes. Leaves that no candidate can fill are top-ups. With the estimator `top_k` the entropies,
    and so the gains, lack what is not among the k.

    Example, half_life 1 (gamma 1/2): H = [0, 1, 0, 1, 0] and ln p = [0, -0.5, 0, -1, 0] have gains [0, 0.5, 0, 0, 0], so
    G = [0.25, 0.5, 0, 0, 0]. Tokens 1 and 3 are unsure, what follows gained at token 1 alone: z(H) = 0.6 / 0.548,
    z(G) = 0.35 / 0.224, BS = 1.715, the only fork.
    """

    forks_inside = True

    def __init__(self, config: AppoRuleConfig):
        self._config = config

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """The best tokens of every trajectory from the prompt; none once branches have been sampled."""
        if any(len(c.path) > 1 for c in completions):
            return []
        requests: list[ForkRequest] = []
        for _, parts in groupby(completions, key=lambda c: c.path):
            best = nlargest(self._config.branches_per_trajectory, self._candidates([*parts]), key=itemgetter(0))
            requests += [ForkRequest(node=node, offset=offset, count=1, priority=score) for score, node, offset in best]
        return requests

    def _candidates(self, parts: Sequence[CompletionView]) -> list[tuple[float, int, int]]:
        """Score, node and offset of each token of one trajectory where a fork is new and both factors are above 0."""
        unsure = _z_scores([h for part in parts for h in part.entropies])
        gains = _z_scores(self._likelihood_gains(parts))
        found: list[tuple[float, int, int]] = []
        start = 0
        for part in parts:
            for offset, _ in part.forkable():
                z, gain = unsure[start + offset], gains[start + offset]
                if z > 0 and gain > 0:
                    found.append((z * gain, part.node, offset))
            start += len(part.entropies)
        return found

    def _likelihood_gains(self, parts: Sequence[CompletionView]) -> list[float]:
        """G_t of each sampled token of one trajectory."""
        discount = 2 ** (-1 / self._config.half_life)
        gains: list[float] = []
        later = 0.0
        for part in reversed(parts):
            for logprob, entropy in zip(reversed(part.logprobs), reversed(part.entropies), strict=True):
                later = logprob + entropy + discount * later
                gains.append(later)
        return gains[::-1]


def _z_scores(values: Sequence[float]) -> list[float]:
    """(x - mean) / std with n - 1; all 0 for equal values or one."""
    std = stdev(values) if len(values) > 1 else 0.0
    mean = fmean(values) if values else 0.0
    return [(x - mean) / std if std else 0.0 for x in values]
