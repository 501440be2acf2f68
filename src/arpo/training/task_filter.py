"""Filters tasks that are always or never solved, for the rest of a run."""

from collections.abc import Callable, Sequence, Set
from dataclasses import KW_ONLY, dataclass

from arpo.training.checkpoint import TrainerState
from arpo.tree import RolloutTree


@dataclass(slots=True)
class TaskFilter:
    """Counts each task's groups without signal in a row, and filters the task when there are enough of one kind.

    A group without signal has equal rewards, or with dynamic sampling answers all right or all wrong. It is solved when all its
    answers are right, else unsolved. A group with signal, or of the other kind, restarts the count. The counts are in the
    trainer's state, so a resumed run goes on with them.

    Example: with `after` = 2, the groups solved, solved filter a task; solved, unsolved, solved do not.
    """

    after: int
    """Groups in a row that filter a task; 0 filters none."""
    state: TrainerState
    """Its `streaks` and `filtered` are written."""
    _: KW_ONLY
    most: int
    """Most tasks to filter, so that enough stay for a step; later ones stay and are counted on."""
    report: Callable[[str], None]
    """Gets one line for each filtered task."""

    @property
    def filtered(self) -> Set[str]:
        """Ids of the filtered tasks."""
        return set(self.state.filtered)

    def observe(self, trees: Sequence[RolloutTree], without_signal: Set[str]) -> dict[str, float]:
        """Count a step's scored trees; return the metric of the filter, none when it is off.

        Args:
            trees: Of the step.
            without_signal: Ids of their tasks whose groups teach nothing.
        """
        if not self.after:
            return {}
        for tree in trees:
            streak = self._count(tree, has_signal=tree.task.id not in without_signal)
            if abs(streak) >= self.after and len(self.state.filtered) < self.most:
                del self.state.streaks[tree.task.id]
                self.state.filtered.append(tree.task.id)
                kind = "solved in every trajectory" if streak > 0 else "solved in none"
                self.report(f"task_filter: {tree.task.id} is filtered: {kind} of its last {abs(streak)} groups")
        return {"rollout/tasks_filtered": len(self.state.filtered)}

    def _count(self, tree: RolloutTree, *, has_signal: bool) -> int:
        """The task's groups in a row, this one included: above 0 solved, below 0 unsolved, 0 when this one has signal."""
        before = self.state.streaks.pop(tree.task.id, 0)
        if has_signal:
            return 0
        is_solved = all(leaf.is_correct for leaf in tree.leaves())
        kind = 1 if is_solved else -1
        self.state.streaks[tree.task.id] = before + kind if before * kind > 0 else kind
        return self.state.streaks[tree.task.id]
