"""Collects the trees of a step: sampled, scored while others are still sampled, and replaced where they teach nothing."""

from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass

from arpo.errors import ArpoError, JudgeError
from arpo.rewards.scoring import Scorer, rewards_of
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.seeds import derive_seed
from arpo.training.task_order import TaskOrder
from arpo.tree import RolloutTree
from arpo.types import Task


@dataclass(slots=True, frozen=True, kw_only=True)
class StepRollouts:
    """The scored trees of a step."""

    trees: list[RolloutTree]
    """Every one, in the order of their tasks, round by round."""
    without_signal: frozenset[str]
    """Task ids of the trees whose leaves all have the same reward."""
    replaced: frozenset[str]
    """Task ids of the trees without signal that a tree of a further task replaces."""
    num_dropped: int
    """Trees that could not be sampled, or that hold an ungraded answer."""
    num_rounds: int
    """1, and one for every round of further tasks."""
    position: int
    """Where the task order goes on."""

    @property
    def kept(self) -> list[RolloutTree]:
        """The trees to learn from."""
        return [tree for tree in self.trees if tree.task.id not in self.replaced]


class Collector:
    """Collects the trees of one step after the other.

    With `max_rounds` above 0 it samples dynamically (DAPO, arXiv:2503.14476): trees of further tasks replace those without
    signal and those that were dropped, until `tasks_per_step` trees have signal, `max_rounds` further rounds are over, or the
    step has tried every task. The latest trees without signal fill what is still missing.
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
        """A collector.

        Args:
            runner: Samples trees.
            scorer: Scores their leaves meanwhile.
            order: Which tasks come next.
            tasks_per_step: Trees wanted.
            max_rounds: Most rounds of further tasks; 0 replaces nothing.
            seed: Of the run.
            has_signal: Whether the rewards of a scored tree differ; asked once per tree.
            report: Gets one line for each tree that failed.
        """
        self._runner = runner
        self._scorer = scorer
        self._order = order
        self._tasks_per_step = tasks_per_step
        self._max_rounds = max_rounds
        self._seed = seed
        self._has_signal = has_signal
        self._report = report

    async def collect(self, step: int, position: int, filtered: Set[str] = frozenset()) -> StepRollouts:
        """The trees of step `step`, counted from 0, whose tasks begin at `position` of the order and are not `filtered`.

        Raises:
            EngineError, DataError, JudgeError: every tree was dropped, so there is nothing to learn from; the last error.
        """
        trees: list[RolloutTree] = []
        without_signal: list[str] = []
        errors: list[ArpoError] = []
        tried = set(filtered)
        seed = derive_seed(self._seed, "rollout", step)
        num_rounds = 0
        while num_rounds <= self._max_rounds:
            missing = self._tasks_per_step - (len(trees) - len(without_signal))
            tasks, position = self._order.take(position, missing, without=tried)
            if not tasks:
                break
            tried.update(task.id for task in tasks)
            found = await self._collect_round(tasks, seed, errors)
            trees += found
            without_signal += [tree.task.id for tree in found if not self._has_signal(tree)]
            seed = derive_seed(seed, "further round")
            num_rounds += 1
        if not trees:
            error = errors[-1]
            raise type(error)(f"step {step + 1}: every tree was dropped; the last error: {error}") from error
        return StepRollouts(
            trees=trees,
            without_signal=frozenset(without_signal),
            replaced=frozenset(without_signal[: max(0, len(trees) - self._tasks_per_step)]),
            num_dropped=len(errors),
            num_rounds=num_rounds,
            position=position,
        )

    async def _collect_round(self, tasks: Sequence[Task], seed: int, errors: list[ArpoError]) -> list[RolloutTree]:
        """The trees of some tasks in their order; `errors` gets one for each tree that is missing."""
        trees: dict[str, RolloutTree] = {}

        def on_failure(failure: TreeFailure) -> None:
            self._report(str(failure))
            if failure.is_dropped:
                errors.append(failure.error)

        growing = self._runner.sample(tasks, seed=seed, on_failure=on_failure)
        async with aclosing(self._scorer.scored(growing)) as scored:
            async for tree in scored:
                if len(rewards_of([tree])) == len(tree.leaves()):
                    trees[tree.task.id] = tree
                else:
                    errors.append(_ungraded(tree))
                    self._report(f"tree of task {tree.task.id!r}: dropped: {errors[-1]}")
        return [trees[task.id] for task in tasks if task.id in trees]


def _ungraded(tree: RolloutTree) -> JudgeError:
    reasons = [leaf.ungraded for leaf in tree.leaves() if leaf.reward is None]
    return JudgeError(f"{len(reasons)} of its {len(tree.leaves())} answers have no verdict: {reasons[0]}")
