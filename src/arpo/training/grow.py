"""The trees of a step: grown, scored while others still grow, and replaced where they would teach nothing."""

from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass

from arpo.errors import ArpoError, JudgeError
from arpo.rewards.scoring import Scorer, graded_leaves
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.seeds import derive_seed
from arpo.training.task_order import TaskOrder
from arpo.tree import RolloutTree
from arpo.types import Task


@dataclass(slots=True, frozen=True, kw_only=True)
class Grown:
    """The trees of a step, scored."""

    trees: list[RolloutTree]
    """Every one, in the order of their tasks, round by round."""
    replaced: frozenset[str]
    """Task ids of the trees without signal whose place went to a further task."""
    num_lost: int
    """Trees that could not be grown, or hold an ungraded answer."""
    num_rounds: int
    """1, and one for every round of further tasks."""
    position: int
    """Where the task order goes on."""

    @property
    def kept(self) -> list[RolloutTree]:
        """The trees to learn from."""
        return [tree for tree in self.trees if tree.task.id not in self.replaced]


class TreeGrower:
    """Grows the trees of one step after the other.

    With `max_rounds` above 0 it samples dynamically (DAPO, arXiv:2503.14476): trees without signal, and lost ones, are replaced
    by those of further tasks until `tasks_per_step` have signal, `max_rounds` further rounds are over, or the step has tried
    every task. Places that stay free go to the latest trees without signal.
    """

    def __init__(
        self,
        runner: RolloutRunner,
        scorer: Scorer,
        order: TaskOrder,
        *,
        tasks_per_step: int,
        max_rounds: int,
        seed: int,
        has_signal: Callable[[RolloutTree], bool],
        report: Callable[[str], None],
    ):
        """A grower.

        Args:
            runner: Grows trees.
            scorer: Scores their leaves, meanwhile.
            order: Which tasks come next.
            tasks_per_step: Trees wanted.
            max_rounds: Most rounds of further tasks; 0 replaces nothing.
            seed: Of the run.
            has_signal: Whether a scored tree teaches something.
            report: Told of each tree that failed, in one line.
        """
        self._runner = runner
        self._scorer = scorer
        self._order = order
        self._tasks_per_step = tasks_per_step
        self._max_rounds = max_rounds
        self._seed = seed
        self._has_signal = has_signal
        self._report = report

    async def grow(self, step: int, position: int, filtered: Set[str] = frozenset()) -> Grown:
        """The trees of step `step`, counted from 0, whose tasks begin at `position` of the order; `filtered` ones are left out.

        Raises:
            EngineError, DataError, JudgeError: every tree was lost, so there is nothing to learn from; the last one's error.
        """
        trees: list[RolloutTree] = []
        lost: list[ArpoError] = []
        tried = set(filtered)
        seed = derive_seed(self._seed, "rollout", step)
        num_rounds = 0
        while num_rounds <= self._max_rounds:
            missing = self._tasks_per_step - sum(map(self._has_signal, trees))
            tasks, position = self._order.take(position, missing, without=tried)
            if not tasks:
                break
            tried.update(task.id for task in tasks)
            trees += await self._grow_round(tasks, seed, lost)
            seed = derive_seed(seed, "further round")
            num_rounds += 1
        if not trees:
            error = lost[-1]
            raise type(error)(f"step {step + 1}: every tree was lost; the last error: {error}") from error
        without_signal = [tree.task.id for tree in trees if not self._has_signal(tree)]
        return Grown(
            trees=trees,
            replaced=frozenset(without_signal[: max(0, len(trees) - self._tasks_per_step)]),
            num_lost=len(lost),
            num_rounds=num_rounds,
            position=position,
        )

    async def _grow_round(self, tasks: Sequence[Task], seed: int, lost: list[ArpoError]) -> list[RolloutTree]:
        """The trees of some tasks in their order; `lost` is told of those that are missing."""
        trees: dict[str, RolloutTree] = {}

        def on_failure(failure: TreeFailure) -> None:
            self._report(str(failure))
            if failure.is_dropped:
                lost.append(failure.error)

        growing = self._runner.grow(tasks, seed=seed, on_failure=on_failure)
        async with aclosing(self._scorer.scored(growing)) as scored:
            async for tree in scored:
                if len(graded_leaves(tree)) == len(tree.leaves()):
                    trees[tree.task.id] = tree
                else:
                    lost.append(_ungraded(tree))
                    self._report(f"tree of task {tree.task.id!r}: dropped: {lost[-1]}")
        return [trees[task.id] for task in tasks if task.id in trees]


def _ungraded(tree: RolloutTree) -> JudgeError:
    reasons = [leaf.reward_reason for leaf in tree.leaves() if leaf.reward is None]
    return JudgeError(f"{len(reasons)} of its {len(tree.leaves())} answers have no verdict; {reasons[0]}")
