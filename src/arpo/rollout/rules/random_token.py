"""The control of forks inside completions: at tokens drawn at random."""

from collections.abc import Sequence
from heapq import nsmallest
from random import Random

from arpo.rollout.config import RandomTokenRuleConfig
from arpo.rollout.rules.base import BranchRule, CompletionView, ForkRequest


class RandomTokenRule(BranchRule):
    """Fork before tokens of the group's completions drawn uniformly, once every path has ended.

    As `TokenEntropyRule`, which may fork at the same places (not before a completion's first token, nor before one of entropy
    0), whatever the entropy there: it tells forking inside completions from forking *where the model is unsure*.

    Example: entropies [2.0, 0.1, 1.5] and [0.3, 0.9] with two leaves missing: two of offsets 1 and 2 of the first and 1 of the
    second, each pair as likely as the others.
    """

    forks_inside = True

    def __init__(self, config: RandomTokenRuleConfig):
        self._config = config

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """A number is drawn for every place; the `num_missing` smallest are taken."""
        places = [
            (rng.random(), c.node, offset) for c in completions for offset, e in enumerate(c.entropies) if offset > 0 and e > 0
        ]
        return [
            ForkRequest(node=node, offset=offset, count=self._config.branch_factor, priority=-drawn)
            for drawn, node, offset in nsmallest(num_missing, places, key=lambda place: place[0])
        ]
