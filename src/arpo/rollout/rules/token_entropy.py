"""Branching inside completions, at the tokens the model was least sure of."""

from collections.abc import Sequence
from heapq import nlargest
from random import Random

from arpo.rollout.config import TokenEntropyRuleConfig
from arpo.rollout.rules.base import BranchRule, CompletionView, ForkRequest


class TokenEntropyRule(BranchRule):
    """Fork before the highest-entropy tokens of the group's completions, once every path has ended.

    The new path keeps the tokens before the chosen one and draws that one again. Asked again when the new paths have ended and
    leaves are still missing. After TreeRL, arXiv:2506.11902 (EPTree). Stated choices: a completion's first token is no place
    for it (that would be a branch after the tool result, or a fresh trajectory), nor is a token of entropy 0, which could not
    differ.

    Example: entropies [2.0, 0.1, 1.5] and [0.3, 0.9] with two leaves missing: forks at offset 2 of the first and 1 of the
    second.
    """

    forks_inside = True

    def __init__(self, config: TokenEntropyRuleConfig):
        self._config = config

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """The `num_missing` tokens of highest entropy; ties go to the completion listed first, then to the earlier token."""
        places = ((e, c.node, offset) for c in completions for offset, e in enumerate(c.entropies) if offset > 0 and e > 0)
        return [
            ForkRequest(node=node, offset=offset, count=self._config.branch_factor, priority=entropy)
            for entropy, node, offset in nlargest(num_missing, places, key=lambda place: place[0])
        ]
