"""The record of past decisions on one tree, in logical order: by turn, then by path."""

from arpo.tree import Node, NodeKind, RolloutTree


class BranchHistory:
    """Past forks and entropies of one tree; a new tree starts with none."""

    def __init__(self) -> None:
        self.entropies: list[tuple[float, ...]] = []
        """Per turn decided so far and the one being decided, the windowed entropies after its tool results, nats."""
        self._forked: set[int] = set()
        self._forked_turns: set[int] = set()

    def record_fork(self, node: Node) -> None:
        """Record that new paths start at an observation."""
        self._forked.add(node.id)
        self._forked_turns.add(node.turn)

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

    def consecutive_turns(self, turn: int) -> int:
        """Number of consecutive turns before `turn` at which any path forked."""
        first = turn
        while first - 1 in self._forked_turns:
            first -= 1
        return turn - first
