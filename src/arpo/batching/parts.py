"""Cuts a tree into parts, the trajectories of one forward pass."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from arpo.batching.config import BatchingConfig
from arpo.errors import ConfigError
from arpo.tree import Node, RolloutTree


def part_leaves(tree: RolloutTree, paths: Sequence[Sequence[Node]], config: BatchingConfig) -> list[range]:
    """The leaves of each part of a tree, as rows of `paths`; every leaf is in one part.

    A part is some of a tree's leaves with every node on their paths; both parts compute the nodes they share, with gradient, so
    that cutting changes no gradient. With `packing = "flat"` each leaf is a part. Otherwise a tree of at most `max_tokens` is
    one part, and a larger one is cut between neighbouring leaves so that the parts hold as few tokens as possible.

    Args:
        tree: The tree; errors name its task.
        paths: The path of each leaf from the prompt, in depth-first order.
        config: The packing and its budget.

    Raises:
        ConfigError: a trajectory is longer than `max_tokens`.

    Example: a prompt of 4 tokens with three leaves of 3 has 13 tokens; `max_tokens = 10` gives parts of one leaf (7 tokens) and
    of two (10).
    """
    lengths = [sum(len(node.token_ids) for node in path) for path in paths]
    longest = max(lengths, default=0)
    if longest > config.max_tokens:
        raise ConfigError(
            f"batching.max_tokens = {config.max_tokens}: trajectory {lengths.index(longest)} of task {tree.task.id!r} has "
            f"{longest} tokens, and a trajectory cannot be cut; set batching.max_tokens to {longest} or more, or lower "
            f"agent.limits.max_trajectory_tokens"
        )
    if config.packing == "flat" or not paths:
        return [range(i, i + 1) for i in range(len(paths))]
    shared = [0, *(_num_shared(before, path) for before, path in pairwise(paths))]
    return _cheapest_cut(lengths, shared, config.max_tokens)


def _num_shared(before: Sequence[Node], path: Sequence[Node]) -> int:
    """Number of tokens that a path shares with the path before it."""
    return sum(len(b.token_ids) for a, b in zip(before, path, strict=False) if a is b)


def _cheapest_cut(lengths: Sequence[int], shared: Sequence[int], max_tokens: int) -> list[range]:
    """Neighbouring leaves in parts of at most `max_tokens` unique tokens, with the smallest sum of tokens.

    `best[j]` is that sum for the first j leaves: the smallest over the start i of the part that ends before j.
    """
    new_tokens = list(accumulate((n - s for n, s in zip(lengths, shared, strict=True)), initial=0))
    best, starts = [0], [0]
    for end in range(1, len(lengths) + 1):
        options: list[tuple[int, int]] = []
        for start in range(end - 1, -1, -1):
            size = shared[start] + new_tokens[end] - new_tokens[start]
            if size > max_tokens:
                break
            options.append((best[start] + size, start))
        cost, start = min(options)
        best.append(cost)
        starts.append(start)
    parts: list[range] = []
    end = len(lengths)
    while end:
        parts.append(range(starts[end], end))
        end = starts[end]
    return parts[::-1]
