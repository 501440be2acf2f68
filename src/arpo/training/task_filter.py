"""Tasks that are always or never solved, left out for the rest of a run."""

from collections.abc import Callable, Sequence, Set

from arpo.training.checkpoint import TrainerState
from arpo.tree import RolloutTree


class TaskFilter:
    """Counts each task's groups without signal in a row, and leaves it out when there are enough of one kind.

    A group without signal has equal rewards, so that nothing is learned from it. It is solved when every answer of it is right;
    else it is not. A group with signal, or of the other kind, starts the count anew. What the filter knows is in the trainer's
    state, so that a resumed run goes on with it.

    Example: with `after` = 2, a task whose groups are solved, solved is left out; with solved, not solved, solved it is not.
    """

    def __init__(
        self,
        after: int,
        state: TrainerState,
        *,
        most: int,
        report: Callable[[str], None],
    ):
        """A filter.

        Args:
            after: Groups in a row that make a task be left out; 0 leaves out none.
            state: Holds `streaks` and `filtered`, which the filter writes.
            most: Tasks that may be left out, so that enough stay for a step; those that come later stay and are counted on.
            report: Told of each task left out, in one line.
        """
        self._after = after
        self._state = state
        self._most = most
        self._report = report

    @property
    def filtered(self) -> Set[str]:
        """Ids of the tasks left out."""
        return set(self._state.filtered)

    def observe(self, trees: Sequence[RolloutTree], without_signal: Set[str]) -> dict[str, float]:
        """Count a step's scored trees; the metric of the filter, none when it is off.

        Args:
            trees: Of the step.
            without_signal: Ids of their tasks whose leaves all have the same reward.
        """
        if not self._after:
            return {}
        for tree in trees:
            streak = self._count(tree, has_signal=tree.task.id not in without_signal)
            if abs(streak) >= self._after and len(self._state.filtered) < self._most:
                del self._state.streaks[tree.task.id]
                self._state.filtered.append(tree.task.id)
                kind = "solved in every trajectory" if streak > 0 else "solved in none"
                self._report(f"task_filter: {tree.task.id} is left out: {kind} of its last {abs(streak)} groups")
        return {"rollout/tasks_filtered": len(self._state.filtered)}

    def _count(self, tree: RolloutTree, *, has_signal: bool) -> int:
        """The task's groups in a row with this one: above 0 solved, below 0 not, 0 when this one has signal."""
        before = self._state.streaks.pop(tree.task.id, 0)
        if has_signal:
            return 0
        is_solved = all(leaf.is_correct for leaf in tree.leaves())
        kind = 1 if is_solved else -1
        self._state.streaks[tree.task.id] = before + kind if before * kind > 0 else kind
        return self._state.streaks[tree.task.id]
