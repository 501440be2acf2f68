"""The record of past decisions on one tree, in logical order: by turn, then by path."""

from arpo.tree import Node, NodeKind, RolloutTree


class BranchHistory:
    """Past forks and entropies of one tree; a new tree starts with none."""

    def __init__(self) -> None:
        self.entropies: list[tuple[float, ...]] = []
        """Per turn decided so far and the one being decided, the windowed entropies after its tool results, nats."""
        self._forked: set[int] = set()
        self._first_round = 0
        self._gained: set[int] = set()
        """Rounds in which the tree gained a path."""

    def round_of(self, turn: int) -> int:
        """The round of a turn of the paths that grow now; equal to it until a fill has started."""
        return self._first_round + turn

    def record_fork(self, node: Node) -> None:
        """Record that new paths start at an observation."""
        self._forked.add(node.id)
        self._gained.add(self.round_of(node.turn))

    def record_fill(self, last_turn: int) -> None:
        """Record that a fresh trajectory fills the tree, after paths of at most `last_turn` observations have ended.

        Example: paths with up to 2 results end in round 3, where the fill is gained; its first result is in round 4.
        """
        self._first_round = self.round_of(last_turn) + 1
        self._gained.add(self._first_round)

    def consecutive_branches(self, tree: RolloutTree, node: Node) -> int:
        """Number of consecutive observations above `node`, counted from the nearest, at which the tree forked.

        Example: a path with forks at its first, third and fourth result has 2 at its fifth; a path that began as the fork at
        the fourth has 2 there as well.
        """
        count = 0
        for above in reversed(tree.path(node)[:-1]):
            if above.kind is NodeKind.OBSERVATION:
                if above.id not in self._forked:
                    break
                count += 1
        return count

    def consecutive_rounds(self, turn: int) -> int:
        """Number of consecutive rounds before that of `turn` in which the tree gained a path."""
        this = first = self.round_of(turn)
        while first - 1 in self._gained:
            first -= 1
        return this - first
