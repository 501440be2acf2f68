"""How often the groups of each task were mixed, for a branch rule that plans by it."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from statistics import fmean

from arpo.rollout.rules import PastGroups
from arpo.training.checkpoint import TrainerState
from arpo.training.group_signal import differs_in_correctness
from arpo.tree import RolloutTree


@dataclass(slots=True)
class TaskOutcomes:
    """Counts each task's groups, and those of them with right and wrong answers.

    Rewards stay here: the rollout gets the counts, as `PastGroups`. They are in the trainer's state, so a resumed run goes on
    with them. `differs_in_correctness` says which groups are mixed.
    """

    state: TrainerState
    """Its `outcomes` are written."""
    _: KW_ONLY
    counts: bool
    """False: the rule does not ask, and nothing is counted."""

    def past_groups(self) -> Mapping[str, PastGroups]:
        """Task id -> its groups so far; tasks without any are missing."""
        return {task: PastGroups(num_groups=n, num_mixed=mixed) for task, (n, mixed) in self.state.outcomes.items()}

    def observe(self, trees: Sequence[RolloutTree]) -> dict[str, float]:
        """Count a step's scored trees; return the metrics of their budgets, none where nothing is counted.

        Example: two trees of 16 leaves with N = 10 and 8, the second of a task with earlier groups: mean budget 7, least 6,
        most 8, and half of the tasks known.
        """
        if not self.counts:
            return {}
        known = fmean(tree.task.id in self.state.outcomes for tree in trees)
        for tree in trees:
            num_groups, num_mixed = self.state.outcomes.get(tree.task.id, (0, 0))
            self.state.outcomes[tree.task.id] = [num_groups + 1, num_mixed + differs_in_correctness(tree)]
        budgets = [len(tree.leaves()) - tree.settings["num_initial"] for tree in trees]
        return {
            "rollout/branch_budget_mean": fmean(budgets),
            "rollout/branch_budget_min": min(budgets),
            "rollout/branch_budget_max": max(budgets),
            "rollout/known_task_rate": known,
        }
