"""The study: exact measurements of small groups, also under other policies, and samples of groups of a usual size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arpo.lab.bias.combinations import RULES, common_estimators, further_estimators, growth, main_estimators
from arpo.lab.bias.decision_tree import DecisionTree
from arpo.lab.bias.estimators import Estimator
from arpo.lab.bias.measurement import NUM_BLOCKS, Measurement, measure_by_sampling, measure_exactly
from arpo.lab.bias.rollouts import Growth
from arpo.tracking.progress import Progress

SMALL = {"group_size": 4, "num_initial": 2}
LARGE = {"group_size": 16, "num_initial": 8}
IN_PRACTICE = ("none", "random", "arpo, k = 1", "arpo, k = 2", "aepo, probe, k = 1", "token_entropy")
"""Rules to measure under other policies and at the large size too."""


@dataclass(slots=True, frozen=True, kw_only=True)
class BiasStudy:
    """The measurements."""

    exact: list[Measurement]
    """Every rule, with and without top-ups, under the main estimators: M = 4, N = 2."""
    further: list[Measurement]
    """Attribution and aggregation: M = 4, N = 2, rules `none` and `arpo, k = 1`."""
    policies: list[list[Measurement]]
    """Per further policy with random logits, with top-ups as in the runner: M = 4, N = 2."""
    sampled: list[Measurement]
    """With top-ups as in the runner, M = 16, N = 8, with intervals, under the common estimators."""
    num_groups: int
    """Groups sampled per row of `sampled`."""


def run_bias_study(*, num_policies: int, num_groups: int, seed: int, progress: Progress) -> BiasStudy:
    """Measure everything.

    Args:
        num_policies: Number of further policies with random logits.
        num_groups: Groups sampled per rule at the large size, rounded down to whole blocks.
        seed: Seed of the sampled groups.
        progress: Counts the rules.
    """
    tree = DecisionTree.of_study()
    small = [growth(rule, **SMALL, tops_up=tops_up) for rule in RULES for tops_up in (False, True) if tops_up or rule != "none"]
    aside = [growth("none", **SMALL, tops_up=True), growth("arpo, k = 1", **SMALL, tops_up=False)]
    in_practice = [growth(rule, **SMALL, tops_up=True) for rule in IN_PRACTICE]
    large = [growth(rule, **LARGE, tops_up=True) for rule in IN_PRACTICE]
    return BiasStudy(
        exact=_exact("every rule", tree, small, main_estimators(), progress),
        further=_exact("attribution", tree, aside, further_estimators(), progress),
        policies=[
            _exact(f"policy {index}", DecisionTree.random(index), in_practice, main_estimators(), progress)
            for index in range(num_policies)
        ],
        sampled=_measure(
            "large groups",
            large,
            lambda growth: measure_by_sampling(tree, growth, common_estimators(), num_groups=num_groups, seed=seed),
            progress,
        ),
        num_groups=num_groups // NUM_BLOCKS * NUM_BLOCKS,
    )


def _exact(
    title: str, tree: DecisionTree, growths: Sequence[Growth], estimators: Sequence[Estimator], progress: Progress
) -> list[Measurement]:
    return _measure(title, growths, lambda growth: measure_exactly(tree, growth, estimators), progress)


def _measure(
    title: str, growths: Sequence[Growth], measure: Callable[[Growth], list[Measurement]], progress: Progress
) -> list[Measurement]:
    rows: list[Measurement] = []
    with progress.phase(title, total=len(growths), unit="rule") as phase:
        for growth in growths:
            rows += measure(growth)
            phase.advance()
    return rows
