"""Token entropy by distance from the last tool result, the observation behind ARPO, over any set of rollout trees."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from arpo.tree.node import Node, NodeKind
from arpo.tree.tree import RolloutTree


@dataclass(slots=True, frozen=True)
class EntropyCurve:
    """Mean entropy at each distance; lists are equally long, the index is the distance."""

    mean: list[float]
    """[D] nats."""
    standard_error: list[float | None]
    """[D] nats, clustered by tree, as the tokens of one tree share their task; None for fewer than two trees."""
    count: list[int]
    """[D] tokens averaged; a token that several trajectories share counts once."""

    def common(self, min_share: float) -> "EntropyCurve":
        """The curve up to the first distance with fewer tokens than `min_share` of those at distance 0.

        Far from a result only a few long turns remain, and their mean does not represent the others.

        Example: counts [200, 180, 9] and 0.05: the third is below 10, so two distances remain.
        """
        few = [d for d, n in enumerate(self.count) if n < min_share * self.count[0]]
        end = few[0] if few else len(self.count)
        return EntropyCurve(self.mean[:end], self.standard_error[:end], self.count[:end])

    def mean_of_first(self, num_tokens: int) -> float:
        """Mean entropy of all tokens at the first `num_tokens` distances, nats.

        Example: mean [0.2, 0.6], count [3, 1]: (3 * 0.2 + 0.6) / 4 = 0.3 for two tokens.
        """
        counts = self.count[:num_tokens]
        return sum(m * n for m, n in zip(self.mean, counts, strict=False)) / sum(counts)


@dataclass(slots=True, frozen=True)
class EntropyProfile:
    """Entropy curves by the last text the policy read."""

    before_tools: EntropyCurve
    """Tokens with no tool result before them, by distance from the prompt's end."""
    after_tool: EntropyCurve
    """Tokens after a tool result, by distance from the end of the last one."""
    by_tool: dict[str, EntropyCurve]
    """`after_tool` split by the tool that was called, sorted by name; "other" when no call was parsed."""


class EntropyByDistance:
    """Mean entropy of sampled tokens by their distance, in sampled tokens, from the last tool result or the prompt's end.

    The token drawn right after the result has distance 0. Curves end at `max_distance` (included) or at the last distance that
    has a token. The standard error of the mean m over n tokens in G trees is
    `sqrt(G/(G-1) · Σ_g (Σ_{i in g} (h_i - m))²) / n`.

    Example:
        a completion with entropies [0.1, 0.3], a search result, and two forked completions [0.8, 0.2] and [0.6]
        -> before_tools.mean [0.1, 0.3], after_tool.mean [0.7, 0.2], after_tool.count [2, 1], by_tool {"search": ...}
    """

    def __init__(self, max_distance: int) -> None:
        self._max_distance = max_distance
        self._num_trees = 0
        self._before, self._after = _Sums(), _Sums()
        self._by_tool: dict[str, _Sums] = {}

    def add(self, tree: RolloutTree) -> None:
        """Count the tokens of a tree; a token that several trajectories share counts once."""
        for node, source, start in sampled_nodes(tree):
            parts = [self._before]
            if source is not None:
                parts = [self._after, self._by_tool.setdefault(tool_name(tree, source), _Sums())]
            for distance, entropy in enumerate((node.entropies or [])[: max(0, self._max_distance + 1 - start)], start=start):
                for sums in parts:
                    sums.add(distance, self._num_trees, entropy)
        self._num_trees += 1

    def profile(self) -> EntropyProfile:
        """The curves over all trees added."""
        curves = {name: self._by_tool[name].curve() for name in sorted(self._by_tool)}
        by_tool = {name: curve for name, curve in curves.items() if curve.mean}
        return EntropyProfile(self._before.curve(), self._after.curve(), by_tool)


def entropy_by_distance(trees: Iterable[RolloutTree], max_distance: int) -> EntropyProfile:
    """The curves of `EntropyByDistance` over the trees."""
    entropy = EntropyByDistance(max_distance)
    for tree in trees:
        entropy.add(tree)
    return entropy.profile()


def sampled_nodes(tree: RolloutTree) -> Iterator[tuple[Node, Node | None, int]]:
    """Yield (completion, last observation or None, distance of its first token from there) for every completion."""
    seen: dict[int, tuple[Node | None, int]] = {}
    for node in tree.depth_first():
        source, start = seen[node.parent] if node.parent is not None else (None, 0)
        if node.is_sampled:
            yield node, source, start
        is_result = node.kind is NodeKind.OBSERVATION
        seen[node.id] = (node, 0) if is_result else (source, start + len(node.token_ids) * node.is_sampled)


def tool_name(tree: RolloutTree, observation: Node) -> str:
    """The tool whose result an observation shows, of several the first; "other" when no call was parsed."""
    calls = tree.nodes[observation.parent or 0].calls
    return calls[0].name if calls else "other"


@dataclass(slots=True)
class _Sums:
    """Number and sum of entropies per distance and tree."""

    cells: dict[int, dict[int, tuple[int, float]]] = field(default_factory=dict[int, dict[int, tuple[int, float]]])

    def add(self, distance: int, tree: int, entropy: float) -> None:
        row = self.cells.setdefault(distance, {})
        count, total = row.get(tree, (0, 0.0))
        row[tree] = (count + 1, total + entropy)

    def curve(self) -> EntropyCurve:
        rows = [self.cells[d] for d in sorted(self.cells)]
        counts = [sum(n for n, _ in row.values()) for row in rows]
        means = [sum(total for _, total in row.values()) / n for row, n in zip(rows, counts, strict=True)]
        errors = [clustered_error(row, m, n) for row, m, n in zip(rows, means, counts, strict=True)]
        return EntropyCurve(means, errors, counts)


def clustered_error(row: Mapping[int, tuple[int, float]], mean: float, count: int) -> float | None:
    """Standard error of a mean, clustered by tree; None for fewer than two trees. The formula: `EntropyByDistance`.

    Args:
        row: Tree -> number and sum of its values.
        mean: Mean of all values.
        count: Number of all values.
    """
    trees = len(row)
    if trees < 2:
        return None
    squares = sum((total - n * mean) ** 2 for n, total in row.values())
    return math.sqrt(trees / (trees - 1) * squares) / count
