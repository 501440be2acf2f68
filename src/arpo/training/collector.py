"""Collects the trees of a step: samples them, scores them meanwhile, and replaces those without signal."""

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field

from arpo.distributed.world import ALONE, World
from arpo.errors import ArpoError, JudgeError
from arpo.rewards.scoring import Scorer, rewards_of
from arpo.rollout.rules import PastGroups
from arpo.rollout.runner import RolloutRunner, TreeFailure
from arpo.seeds import derive_seed
from arpo.training.group_signal import differs_in_correctness, differs_in_reward
from arpo.training.task_order import TaskOrder
from arpo.tree import RolloutTree
from arpo.types import Task


@dataclass(slots=True, frozen=True, kw_only=True)
class StepRollouts:
    """The scored trees of a step."""

    trees: list[RolloutTree]
    """All trees, in the order of their tasks, round by round."""
    without_signal: frozenset[str]
    """Task ids of the trees without signal, as `Collector` says."""
    replaced: frozenset[str]
    """Task ids of the trees without signal that trees of further tasks replace."""
    num_dropped: int
    """Trees that could not be sampled, or that hold an ungraded answer."""
    num_rounds: int
    """1, and one for every round of further tasks."""
    position: int
    """Position in the task order after the step."""

    @property
    def trained(self) -> list[RolloutTree]:
        """The trees to learn from: those not replaced."""
        return [tree for tree in self.trees if tree.task.id not in self.replaced]


@dataclass(slots=True)
class Collector:
    """Collects the trees of one step after the other.

    A tree has signal where its rewards differ. With `max_rounds` above 0 it samples dynamically (DAPO, arXiv:2503.14476):
    signal is then that answers are right and wrong, and trees of further tasks replace those without it and those that were
    dropped, until `tasks_per_step` trees have signal, `max_rounds` further rounds are over, or the step has tried every task.
    The latest trees without signal fill the step.
    """

    runner: RolloutRunner
    """Samples trees."""
    scorer: Scorer
    """Scores their leaves meanwhile."""
    order: TaskOrder
    """Order of the tasks."""
    _: KW_ONLY
    tasks_per_step: int
    """Trees per step."""
    max_rounds: int
    """Most rounds of further tasks; 0 replaces nothing."""
    seed: int
    """Of the run."""
    report: Callable[[str], None]
    """Gets one line for each tree that failed."""
    world: World = ALONE
    """Ranks that share the tasks; each gets the trees of all."""

    async def collect(
        self, step: int, position: int, filtered: Set[str] = frozenset(), past_groups: Mapping[str, PastGroups] | None = None
    ) -> StepRollouts:
        """The trees of step `step`, counted from 0, whose tasks begin at `position` of the order and are not `filtered`.

        `past_groups` are those of earlier steps, by task id.

        Raises:
            EngineError, DataError, JudgeError: every tree was dropped; the last error.
        """
        trees: list[RolloutTree] = []
        without_signal: list[str] = []
        errors: list[ArpoError] = []
        tried, asked = set(filtered), set[int]()
        has_signal = differs_in_correctness if self.max_rounds else differs_in_reward
        seed = derive_seed(self.seed, "rollout", step)
        num_rounds = 0
        while num_rounds <= self.max_rounds:
            missing = self.tasks_per_step - (len(trees) - len(without_signal))
            tasks, position = self.order.take(position, missing, without=tried, asked=asked)
            if not tasks:
                break
            tried.update(task.id for task in tasks)
            asked.update(map(self.order.key_of, tasks))
            of_round = await self._collect_round(tasks, seed, past_groups, errors)
            trees += of_round
            without_signal += [tree.task.id for tree in of_round if not has_signal(tree)]
            seed = derive_seed(seed, "further round")
            num_rounds += 1
        if not trees:
            error = errors[-1]
            raise type(error)(f"step {step + 1}: every tree was dropped; the last error: {error}") from error
        return StepRollouts(
            trees=trees,
            without_signal=frozenset(without_signal),
            replaced=frozenset(without_signal[: max(0, len(trees) - self.tasks_per_step)]),
            num_dropped=len(errors),
            num_rounds=num_rounds,
            position=position,
        )

    async def _collect_round(
        self, tasks: Sequence[Task], seed: int, past_groups: Mapping[str, PastGroups] | None, errors: list[ArpoError]
    ) -> list[RolloutTree]:
        """The trees of some tasks in their order; `errors` gets one for each tree that is missing.

        Each rank samples its share of the tasks. Then all get the trees of all, pickled, at about 25 bytes per token: what
        follows is the same function of the same trees on every rank, so that nothing of it needs to be agreed upon.
        """
        shares = self.world.gather(await self._sample(self.world.share(tasks), seed, past_groups))
        trees = {tree.task.id: tree for share in shares for tree in share.trees}
        for rank, share in enumerate(shares):
            errors += share.errors
            for line in share.lines if rank != self.world.rank else ():
                self.report(line)
        return [trees[task.id] for task in tasks if task.id in trees]

    async def _sample(self, tasks: Sequence[Task], seed: int, past_groups: Mapping[str, PastGroups] | None) -> "_Sampled":
        """The scored trees of some tasks, as they finish."""
        found = _Sampled()

        def report(line: str) -> None:
            found.lines.append(line)
            self.report(line)

        def on_failure(failure: TreeFailure) -> None:
            report(str(failure))
            if failure.is_dropped:
                found.errors.append(failure.error)

        sampled = self.runner.sample(tasks, seed=seed, past_groups=past_groups, on_failure=on_failure)
        async with aclosing(self.scorer.scored(sampled)) as scored:
            async for tree in scored:
                if len(rewards_of([tree])) == len(tree.leaves()):
                    found.trees.append(tree)
                else:
                    found.errors.append(_ungraded(tree))
                    report(f"tree of task {tree.task.id!r}: dropped: {found.errors[-1]}")
        return found


@dataclass(slots=True)
class _Sampled:
    """What a rank sampled in a round."""

    trees: list[RolloutTree] = field(default_factory=list[RolloutTree])
    errors: list[ArpoError] = field(default_factory=list[ArpoError])
    lines: list[str] = field(default_factory=list[str])
    """Reports of failures."""


def _ungraded(tree: RolloutTree) -> JudgeError:
    reasons = [leaf.ungraded for leaf in tree.leaves() if leaf.reward is None]
    return JudgeError(f"{len(reasons)} of its {len(tree.leaves())} answers have no verdict: {reasons[0]}")
