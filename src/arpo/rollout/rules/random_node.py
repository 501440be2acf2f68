"""Tree-GRPO's expansion: fork at steps drawn uniformly from each tree."""

from collections.abc import Sequence
from itertools import groupby
from random import Random

from arpo.rollout.config import RandomNodeRuleConfig
from arpo.rollout.rules.base import BranchRule, NodeView


class RandomNodeRule(BranchRule):
    """Draw nodes of each tree uniformly and start a new path at each, once every path has ended; again until the group is full.

    A tree is an initial trajectory with all that grew from it; its nodes are the prompt and the observations after which a step
    began. Formula: M trees, N nodes of each with replacement, L rounds: M (1 + L N) leaves, so L = (group_size / M - 1) / N.
    Source: Tree-GRPO, arXiv:2509.21240, sampling and expansion; the authors' code for the replacement and for the prompt among
    the nodes. Stated choice: where group_size is no such number, the last round starts a random part of its draws (the code
    keeps K random leaves of each tree).

    Example: M = 2, N = 2, group_size 6: a tree of three steps draws two of prompt, first and second result, each with
    probability 1/3, maybe one of them twice.
    """

    forks_at_nodes = True

    def __init__(self, config: RandomNodeRuleConfig):
        self._config = config

    def choose_nodes(self, nodes: Sequence[NodeView], num_missing: int, rng: Random) -> list[int]:
        """The draws of all trees, shuffled."""
        drawn: list[int] = []
        for _, of_tree in groupby(range(len(nodes)), key=lambda index: nodes[index].tree):
            drawn += rng.choices([*of_tree], k=self._config.nodes_per_tree)
        rng.shuffle(drawn)
        return drawn
