"""Token entropy by distance from the last tool result, the observation behind ARPO, over any set of rollout trees."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from arpo.tree.node import Node, NodeKind
from arpo.tree.shares import node_shares
from arpo.tree.tree import RolloutTree


@dataclass(slots=True, frozen=True)
class EntropyCurve:
    """Mean entropy at each distance; lists are equally long, the index is the distance."""

    mean: list[float]
    """[D] nats."""
    standard_error: list[float | None]
    """[D] nats, clustered by tree, as the tokens of one tree share their task; None for fewer than two trees."""
    count: list[int]
    """[D] distinct tokens averaged."""
    weight: list[float] | None = None
    """[D] sum of the tokens' weights in the mean, their shares (`node_shares`); None: each weighs 1."""

    def common(self, min_share: float) -> "EntropyCurve":
        """The curve up to the first distance with fewer tokens than `min_share` of those at distance 0.

        Far from a result only a few long turns remain, and their mean does not represent the others.

        Example: counts [200, 180, 9] and 0.05: the third is below 10, so two distances remain.
        """
        few = [d for d, n in enumerate(self.count) if n < min_share * self.count[0]]
        end = few[0] if few else len(self.count)
        weight = self.weight[:end] if self.weight is not None else None
        return EntropyCurve(self.mean[:end], self.standard_error[:end], self.count[:end], weight)

    def mean_of_first(self, num_tokens: int) -> float:
        """Mean entropy of all tokens at the first `num_tokens` distances, nats.

        Example: mean [0.2, 0.6], weight [3, 1]: (3 * 0.2 + 0.6) / 4 = 0.3 for two tokens.
        """
        weights = (self.count if self.weight is None else self.weight)[:num_tokens]
        return sum(m * w for m, w in zip(self.mean, weights, strict=False)) / sum(weights)


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
    has a token. A token weighs its share w (`node_shares`), as independent trajectories would show it. The standard error of
    the mean m over G trees is `sqrt(G/(G-1) · Σ_g (Σ_{i in g} w_i (h_i - m))²) / Σ w_i`.

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
        """Count the tokens of a tree."""
        shares = node_shares(tree)
        for node, source, start in sampled_nodes(tree):
            parts = [self._before]
            if source is not None:
                parts = [self._after, self._by_tool.setdefault(tool_name(tree, source), _Sums())]
            for distance, entropy in enumerate((node.entropies or [])[: max(0, self._max_distance + 1 - start)], start=start):
                for sums in parts:
                    sums.add(distance, self._num_trees, entropy, shares[node.id])
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
    """Number of entropies per distance; their weight and weighted sum per distance and tree."""

    counts: Counter[int] = field(default_factory=Counter[int])
    cells: dict[int, dict[int, tuple[float, float]]] = field(default_factory=dict[int, dict[int, tuple[float, float]]])

    def add(self, distance: int, tree: int, entropy: float, share: float) -> None:
        self.counts[distance] += 1
        row = self.cells.setdefault(distance, {})
        weight, total = row.get(tree, (0.0, 0.0))
        row[tree] = (weight + share, total + share * entropy)

    def curve(self) -> EntropyCurve:
        distances = sorted(self.cells)
        rows = [self.cells[d] for d in distances]
        weights = [sum(w for w, _ in row.values()) for row in rows]
        means = [sum(total for _, total in row.values()) / w for row, w in zip(rows, weights, strict=True)]
        errors = [clustered_error(row, m, w) for row, m, w in zip(rows, means, weights, strict=True)]
        return EntropyCurve(means, errors, [self.counts[d] for d in distances], weights)


def clustered_error(row: Mapping[int, tuple[float, float]], mean: float, weight: float) -> float | None:
    """Standard error of a mean, clustered by tree; None for fewer than two trees. The formula: `EntropyByDistance`.

    Args:
        row: Tree -> weight and weighted sum of its values.
        mean: Weighted mean of all values.
        weight: Weight of all values.
    """
    trees = len(row)
    if trees < 2:
        return None
    squares = sum((total - w * mean) ** 2 for w, total in row.values())
    return math.sqrt(trees / (trees - 1) * squares) / weight
