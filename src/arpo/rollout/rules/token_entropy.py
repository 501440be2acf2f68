"""Branching inside completions, at the tokens of highest entropy."""

from collections.abc import Sequence
from heapq import nlargest
from operator import itemgetter
from random import Random

from arpo.rollout.config import RandomTokenRuleConfig, TokenEntropyRuleConfig
from arpo.rollout.rules.base import BranchRule, CompletionView, ForkRequest


class TokenEntropyRule(BranchRule):
    """Fork before the highest-entropy tokens of the group's completions, once every path has ended.

    The new path keeps the tokens before the chosen one and draws that one again. The rule decides again when the new paths have
    ended and leaves are still missing. Source: our own. TreeRL, arXiv:2506.11902, takes the tokens of each tree and not of the
    whole group. Stated choice: no fork before the tokens that `CompletionView.forkable` excludes.

    Example: entropies [2.0, 0.1, 1.5] and [0.3, 0.9] with two leaves missing: forks at offset 2 of the first and 1 of the
    second.
    """

    forks_inside = True

    def __init__(self, config: TokenEntropyRuleConfig | RandomTokenRuleConfig):
        self._config = config

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """The `num_missing` tokens of highest priority; ties go to the completion listed first, then to the earlier token."""
        ranked = [(self._priority(entropy, rng), c.node, offset) for c in completions for offset, entropy in c.forkable()]
        return [
            ForkRequest(node=node, offset=offset, count=self._config.branch_factor, priority=priority)
            for priority, node, offset in nlargest(num_missing, ranked, key=itemgetter(0))
        ]

    def _priority(self, entropy: float, rng: Random) -> float:
        return entropy
