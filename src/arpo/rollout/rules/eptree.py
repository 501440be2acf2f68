"""TreeRL's EPTree: fork before the most uncertain tokens of each tree."""

from collections.abc import Sequence
from heapq import nlargest
from itertools import groupby
from operator import itemgetter
from random import Random

from arpo.rollout.config import EptreeRuleConfig
from arpo.rollout.rules.base import BranchRule, CompletionView, ForkRequest


class EptreeRule(BranchRule):
    """Fork each tree before its tokens of highest entropy, once every path has ended; again until the group is full.

    A tree is an initial trajectory with all that grew from it. Formula: M trees, the N tokens of highest entropy of each, T new
    paths at every one, L rounds: M (1 + L N T) leaves, so L = (group_size / M - 1) / (N T). The new paths draw the token again.
    Source: TreeRL, arXiv:2506.11902, EPTree. Stated choices: no fork before the tokens that `CompletionView.forkable` excludes,
    so none twice before one token (the code may take it again in a later round); the tokens of tool calls and answers count
    (the code leaves out what follows the words "answer" and "conclusion"); where group_size is no such number, the last round
    serves the highest entropies of all trees first.

    Example: N = 1, T = 2, entropies [2.0, 0.1, 1.5] of one tree and [0.3, 0.9, 1.0] of another: two paths at offset 2 of each.
    """

    forks_inside = True

    def __init__(self, config: EptreeRuleConfig):
        self._config = config

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """Requests at the N tokens of highest entropy of each tree; ties go to the completion listed first, then its start."""
        requests: list[ForkRequest] = []
        for _, of_tree in groupby(completions, key=lambda c: c.path[0]):
            ranked = [(entropy, c.node, offset) for c in of_tree for offset, entropy in c.forkable()]
            best = nlargest(self._config.tokens_per_tree, ranked, key=itemgetter(0))
            count = self._config.branch_factor
            requests += [ForkRequest(node=node, offset=offset, count=count, priority=entropy) for entropy, node, offset in best]
        return requests
