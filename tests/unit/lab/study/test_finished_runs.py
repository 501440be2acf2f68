import pytest

from arpo.errors import RunError
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.costs import Reached
from arpo.lab.study.finished_runs import FinishedRuns, Seconds
from arpo.lab.study.folder import StudyFolder
from arpo.tree import NodeKind, RolloutTree, write_trees
from arpo.types import Message, Task

FIRST = (0, 0)


@pytest.fixture
def finished(study: StudyConfig, folder: StudyFolder) -> FinishedRuns:
    return FinishedRuns(study, folder)


def test_the_learning_rate_with_the_best_validation_is_taken_and_the_smaller_of_equal_ones(finished: FinishedRuns, finish):
    finish("arpo", FIRST, 6e-4, accuracy=0.6, calls=[1] * 4)
    with pytest.raises(RunError, match=r"rate_0\.0003/0-0: this try of arpo is not finished"):
        finished.best_rate("arpo")
    finish("arpo", FIRST, 3e-4, accuracy=0.5, calls=[1] * 4)
    assert finished.best_rate("arpo") == 6e-4
    finish("random", FIRST, 6e-4, accuracy=0.6, calls=[1] * 6)
    finish("random", FIRST, 3e-4, accuracy=0.6, calls=[1] * 6)
    assert finished.best_rate("random") == 3e-4


def test_budgets_are_what_the_budget_arm_spent_in_the_same_run(finished: FinishedRuns, folder: StudyFolder, finish):
    for rate in (3e-4, 6e-4):
        finish("arpo", FIRST, rate, accuracy=0.5, calls=[5, 5, 5, 5])  # 20 calls, 200 tokens in 4 steps
        finish("random", FIRST, rate, accuracy=0.5, calls=[3, 3, 3, 3, 9, 9])  # 12 calls at step 4, 30 at 6
    assert finished.budgets("random", FIRST) == {
        "tool_calls": Reached(step=4, spent=12, budget=20, is_short=False),
        "sampled_tokens": Reached(step=4, spent=120, budget=200, is_short=False),
    }
    for arm, step_s in (("arpo", 3.0), ("random", 1.5)):  # alone on the machine; the first step is left out
        finish_timing(folder, arm, [9.0, step_s, step_s])
    # 4 steps of 3 s are 12 s: 8 steps of 1.5 s, of which 6 were taken
    assert finished.budgets("random", FIRST)["time"] == Reached(step=6, spent=9.0, budget=12.0, is_short=True)
    assert finished.budgets("arpo", FIRST)["time"] == Reached(step=4, spent=12.0, budget=12.0, is_short=False)


def finish_timing(folder: StudyFolder, arm: str, seconds: list[float]) -> None:
    where = folder.timing(arm)
    where.mkdir(parents=True)
    lines = [f'{{"step": {step}, "time/step_s": {s}}}\n' for step, s in enumerate(seconds, start=1)]
    (where / "metrics.jsonl").write_text("".join(lines))
    (where / "summary.json").write_text("{}")


def test_times_count_the_compared_steps_alone(finished: FinishedRuns, finish):
    for rate in (3e-4, 6e-4):
        finish("random", FIRST, rate, accuracy=0.5, calls=[1] * 6, step_s=2.0)
    assert finished.seconds("random", FIRST) == Seconds(total=8.0, update=2.0)
    assert finished.step_seconds("random") is None


def test_rates_of_branches_come_from_the_saved_trees(finished: FinishedRuns, finish):
    """Two opportunities at the first tool result, of which one branched, and one at the second, which did not."""
    for rate in (3e-4, 6e-4):
        where = finish("arpo", FIRST, rate, accuracy=0.5, calls=[1] * 4)
    task = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="test")
    tree = RolloutTree.from_prompt(task, [0])
    for branches in (1, 0):
        call = tree.append(tree.root, NodeKind.COMPLETION, [1], entropies=[0.1])
        found = tree.append(call, NodeKind.OBSERVATION, [2], branch_score=0.5)
        second = tree.append(found, NodeKind.COMPLETION, [1], entropies=[0.1])
        if branches:
            tree.append(found, NodeKind.COMPLETION, [1], entropies=[0.1], is_branch=True)
            tree.append(second, NodeKind.OBSERVATION, [2], branch_score=0.5)
    for rate in (3e-4, 6e-4):
        (finished.training("arpo", FIRST).parents[1] / f"rate_{rate:g}" / "0-0" / "rollouts").mkdir()
    write_trees(where.parents[1] / "rate_0.0003" / "0-0" / "rollouts" / "step_000002.jsonl.zst", [tree])
    assert finished.rates_by_turn("arpo", FIRST) == [0.5, 0.0]
    for rate in (3e-4, 6e-4):
        finish("random", FIRST, rate, accuracy=0.5, calls=[1] * 6)
    with pytest.raises(RunError, match="random 0-0: its saved trees show no tool result"):
        finished.rates_by_turn("random", FIRST)
