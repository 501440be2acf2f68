"""The trees every contender of `arpo bench train` trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Reward, Task

NUM_LEAVES = 16
"""Leaves of a synthetic tree."""
_FORK_LEVELS = 4
"""Forks on the way to each of them: 2^4 leaves."""
_ROOT_SHARE = 0.5
"""Part of the shared tokens that lies in the prompt; the levels below share the rest evenly."""
_COMPLETION_SHARE = 0.25
"""Sampled part of a turn; its observation is the rest, as in the quickstart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCounts:
    """Sizes of some trees."""

    num_leaves: int
    unique_tokens: int
    """Each shared token once."""
    total_tokens: int
    """Over all leaves, a token shared by d of them d times."""
    sampled_tokens: int
    """Unique sampled tokens: those that train."""
    longest_leaf: int
    """Tokens of the longest trajectory."""
    visible_pairs: int
    """Pairs of a unique token and a token of its path up to itself: the work of causal attention."""

    @property
    def leaf_length(self) -> int:
        """Mean tokens of a trajectory, rounded."""
        return round(self.total_tokens / self.num_leaves)

    @property
    def sharing(self) -> float:
        """Total over unique tokens."""
        return self.total_tokens / self.unique_tokens


def count_trees(trees: Sequence[RolloutTree]) -> TreeCounts:
    """The sizes of `trees`."""
    lengths = [len(t.token_ids) for tree in trees for t in tree.trajectories()]
    pairs = 0
    for tree in trees:
        ends: dict[int, int] = {}
        for node in tree.depth_first():
            before, size = ends.get(node.parent, 0) if node.parent is not None else 0, len(node.token_ids)
            ends[node.id] = before + size
            pairs += size * before + size * (size + 1) // 2
    return TreeCounts(
        num_leaves=len(lengths),
        unique_tokens=sum(tree.num_unique_tokens for tree in trees),
        total_tokens=sum(lengths),
        sampled_tokens=sum(len(node.token_ids) for tree in trees for node in tree.nodes if node.is_sampled),
        longest_leaf=max(lengths),
        visible_pairs=pairs,
    )


def synthetic_tree(leaf_length: int, sharing: float, num_ids: int, seed: int = 0) -> RolloutTree:
    """A tree of 16 leaves of `leaf_length` tokens each with a given sharing: a prompt, then forks in two at four levels.

    With a shared part x of each leaf, half of it in the prompt and a sixth in each inner level, the unique tokens are
    x (1/2 + (2 + 4 + 8) / 6) + 16 (L - x) = 16 L - 79/6 x, so that x = 96/79 L (1 - 1/sharing). Every turn is a completion and
    an observation, the last one a completion more.

    Args:
        leaf_length: Tokens of each trajectory; at least 64.
        sharing: Total over unique tokens, from 1 to 4. At 1 the leaves share the prompt's single token.
        num_ids: Token ids are drawn below this.
        seed: Of the token ids.

    Example: leaf_length 256 and sharing 2 have a prompt of 78 tokens, levels of 26 and 100 tokens per leaf: 2,042 unique
    of 4,096.
    """
    rng = np.random.default_rng(seed)
    shared = leaf_length * (1 - 1 / sharing) * NUM_LEAVES / (NUM_LEAVES - _ROOT_SHARE - (1 - _ROOT_SHARE) * 14 / 3)
    prompt, level = max(1, round(shared * _ROOT_SHARE)), round(shared * (1 - _ROOT_SHARE) / 3)
    tree = _prompt_tree(_draw(rng, prompt, num_ids))
    ends = [tree.root]
    for _ in range(_FORK_LEVELS - 1):
        ends = [_add_turn(tree, end, level, rng, num_ids) for end in ends for _ in range(2)]
    for end in ends:
        for _ in range(2):
            remaining = leaf_length - prompt - (_FORK_LEVELS - 1) * level
            last = max(1, round(remaining * _COMPLETION_SHARE))
            turn = _add_turn(tree, end, remaining - last, rng, num_ids)
            tree.append(turn, NodeKind.COMPLETION, _draw(rng, last, num_ids))
    return tree


def quickstart_like_trees(num_ids: int, num_trees: int = 8, seed: int = 0) -> list[RolloutTree]:
    """Trees of the quickstart's shape: 8 initial trajectories of three turns, each forked after its first result.

    Example: each tree has 1,236 unique tokens of 1,792 (12 + 8 (47 + 2 * 53) of 16 (12 + 47 + 53)): sharing 1.45; trees of the
    real quickstart have 1.45 to 1.6.
    """
    rng = np.random.default_rng(seed)
    trees: list[RolloutTree] = []
    for _ in range(num_trees):
        tree = _prompt_tree(_draw(rng, 12, num_ids))
        for _ in range(NUM_LEAVES // 2):
            first = _add_call(tree, tree.root, 9, 38, rng, num_ids)
            for _ in range(2):
                second = _add_call(tree, first, 9, 31, rng, num_ids)
                tree.append(second, NodeKind.COMPLETION, _draw(rng, 13, num_ids))
        trees.append(tree)
    return trees


AGENT_FORKS = {1.5: 1, 2.0: 2}
"""Sharing of `agent_trees` -> the result after which every initial trajectory forks."""


def agent_trees(sharing: float, num_ids: int, num_trees: int = 1, seed: int = 0) -> list[RolloutTree]:
    """Groups of 16 with a real model's lengths: a prompt of 75 tokens, three turns of 50 sampled tokens, results of 120.

    Eight initial trajectories fork once, after the first result for a sharing of 1.5 and after the second for 2.

    Example: each trajectory has 75 + 3 * 50 + 2 * 120 = 465 tokens, a group 7,440. Unique are 75 + 8 (170 + 2 * 220) = 4,955,
    sharing 1.502, or 75 + 8 (340 + 2 * 50) = 3,595, sharing 2.07.

    Raises:
        KeyError: a sharing not in `AGENT_FORKS`.
    """
    rng = np.random.default_rng(seed)
    fork_after = AGENT_FORKS[sharing]
    trees: list[RolloutTree] = []
    for _ in range(num_trees):
        tree = _prompt_tree(_draw(rng, 75, num_ids))
        for _ in range(NUM_LEAVES // 2):
            fork = tree.root
            for _ in range(fork_after):
                fork = _add_call(tree, fork, 50, 120, rng, num_ids)
            for _ in range(2):
                end = fork
                for _ in range(2 - fork_after):
                    end = _add_call(tree, end, 50, 120, rng, num_ids)
                tree.append(end, NodeKind.COMPLETION, _draw(rng, 50, num_ids))
        trees.append(tree)
    return trees


def draw_rewards(trees: Sequence[RolloutTree], seed: int = 0) -> None:
    """Give half of each tree's leaves reward 1 and the others 0, so that no contender skips a group."""
    rng = np.random.default_rng(seed)
    for tree in trees:
        leaves = tree.leaves()
        for rank, leaf in enumerate(rng.permutation(np.arange(len(leaves)))):
            leaves[leaf].reward = Reward(value=float(rank % 2))


def _prompt_tree(token_ids: list[int]) -> RolloutTree:
    task = Task(id="bench", messages=(Message(role="user", content="?"),), references=("",), source="bench")
    return RolloutTree.from_prompt(task, token_ids)


def _add_turn(tree: RolloutTree, parent: Node, num_tokens: int, rng: np.random.Generator, num_ids: int) -> Node:
    """Add a completion and an observation of `num_tokens` together; nothing for fewer than two."""
    sampled = max(1, round(num_tokens * _COMPLETION_SHARE))
    return _add_call(tree, parent, sampled, num_tokens - sampled, rng, num_ids) if num_tokens > 1 else parent


def _add_call(tree: RolloutTree, parent: Node, sampled: int, given: int, rng: np.random.Generator, num_ids: int) -> Node:
    completion = tree.append(parent, NodeKind.COMPLETION, _draw(rng, sampled, num_ids))
    return tree.append(completion, NodeKind.OBSERVATION, _draw(rng, given, num_ids))


def _draw(rng: np.random.Generator, count: int, num_ids: int) -> list[int]:
    return rng.integers(num_ids, size=count).tolist()
