"""Whether an answer is right is one fact: whoever grades, and however it is written, every reader says the same."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from arpo.evaluation.records import make_record
from arpo.lab.study.job_actions import right_answers
from arpo.rewards.build import build_scorer
from arpo.rewards.config import RewardConfig
from arpo.rewards.graders import GRADERS
from arpo.rewards.scoring import mean_scores, rewards_of
from arpo.training.checkpoint import TrainerState
from arpo.training.task_filter import TaskFilter
from arpo.tree import RolloutTree, Trajectory
from arpo.viewer.run import ShownTree
from arpo.viewer.tree_view import tree_view

WRITINGS = {
    "box": "<think> so </think> <answer> \\boxed{%s} </answer>",
    "answer block": "<think> so </think> <answer> %s </answer>",
    "phrase": "<think> so </think> The answer is %s.",
}
RIGHT = {"multiple_choice": ("(B) Paris", "B"), "numeric": ("1.95 m", "195 cm"), "math": (r"\frac{1}{2}", "0.5")}
"""By grader: an answer it takes and no exact match does, and the reference; the others get Kelford."""


def readings(tree: RolloutTree) -> dict[str, bool | None]:
    """What each reader takes the tree's one answer for."""
    (leaf,) = tree.leaves()
    state = TrainerState()
    TaskFilter(3, state, most=1, report=lambda _: None).observe([tree], without_signal={tree.task.id})
    record = make_record(tree.trajectory(leaf), "greedy", 0)
    return {
        "leaf": leaf.is_correct,
        "metric and best": {1.0: True, 0.0: False}[mean_scores(rewards_of([tree]))["accuracy"]],
        "task filter": state.streaks[tree.task.id] == 1,
        "study": bool(right_answers(tree)),
        "page": tree_view(ShownTree("", tree), None).cards[-1].is_right,
        "record": record.is_correct,
        "headline": record.score == 1.0,
    }


@pytest.fixture
def score(serve: Any, replies: Any) -> Callable[..., Awaitable[None]]:
    """Scores the tree of a trajectory by a grader without format gate, and by a judge who says `verdict` where it is given."""

    async def run(trajectory: Trajectory, grader: str, verdict: str | None) -> None:
        config: dict[str, Any] = {"rule": "composite", "composite": {"grader": grader, "format_gate": False}}
        if verdict is not None:
            server = await serve(replies.reply(200, {"choices": [{"message": {"content": verdict}}]}))
            config["judge"] = {"base_url": f"{server.url}/v1", "model": "m", "http": {"max_retries": 0}}
        scorer = build_scorer(RewardConfig.model_validate(config))
        await scorer.score(trajectory.tree)
        await scorer.aclose()

    return run


@pytest.mark.parametrize("verdict", [None, "Correct", "Incorrect"])
@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("grader", GRADERS)
async def test_all_readers_agree_with_the_reward(make_trajectory, score, grader, writing, verdict):
    answer, reference = RIGHT.get(grader, ("Kelford", "Kelford"))
    for given, by_grader in ((answer, True), ("17", False)):
        trajectory = make_trajectory(WRITINGS[writing] % given, references=(reference,))
        await score(trajectory, grader, verdict)
        is_right = by_grader if verdict is None else verdict == "Correct"
        assert trajectory.leaf.reward.value == float(is_right)
        assert readings(trajectory.tree) == dict.fromkeys(readings(trajectory.tree), is_right)


def test_an_f1_of_1_is_right_only_where_the_words_are_in_order():
    """Both words of the reference in another order: token F1 is 1, and it is no exact match."""
    for name, is_right in (("f1", False), ("released_f1", False), ("substring", False)):
        assert GRADERS[name].grade_answer("Moor Ada", ["Ada Moor"]).is_correct is is_right
        assert GRADERS[name].grade_answer("Ada Moor", ["Ada Moor"]).is_correct
    assert GRADERS["f1"].grade_answer("Moor Ada", ["Ada Moor"]).score == 1.0


async def test_under_the_papers_rule_right_is_an_exact_match_in_the_box(make_trajectory):
    """Also where the format is bad, and never of an answer outside the box, which the rule's format does not allow."""
    scorer = build_scorer(RewardConfig())
    found = {}
    for writing in (
        "<answer> \\boxed{Kelford} </answer>",
        WRITINGS["answer block"] % "Kelford",
        WRITINGS["box"] % "Kelford town",
    ):
        trajectory = make_trajectory(writing)
        await scorer.score(trajectory.tree)
        found[writing] = (round(trajectory.leaf.reward.value, 3), trajectory.leaf.is_correct)
    assert list(found.values()) == [(-1.0, True), (-1.0, False), (0.667, False)]
    await scorer.aclose()
