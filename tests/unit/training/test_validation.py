"""What a validation measures, and which one counts as the best."""

from dataclasses import replace

import pytest

from arpo.tracking.metrics import check_names
from arpo.training.checkpoint import TrainerState
from arpo.training.validation import _by_source, _note_best


def test_scores_of_each_source_where_there_are_several(make_tree):
    """Two tasks of `openai/gsm8k`, one right of six leaves, and one of `own set`, with one right of three."""
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 0.0, 0.0), name="u"), make_tree((1.0, 0.0, 0.5), name="v")]
    for tree, source in zip(trees, ("openai/gsm8k", "openai/gsm8k", "own set"), strict=True):
        tree.task = replace(tree.task, source=source)
    found = {f"valid/{name}": value for name, value in _by_source(trees).items()}
    check_names(found)
    assert found["valid/source/openai_gsm8k/accuracy"] == pytest.approx(1 / 6)
    assert found["valid/source/openai_gsm8k/num_tasks"] == 2
    assert found["valid/source/own_set/accuracy"] == pytest.approx(1 / 3)
    assert found["valid/source/own_set/reward_mean"] == pytest.approx(0.5)
    assert _by_source(trees[:2]) == {}, "one source: the same as without"


def test_the_best_goes_by_accuracy_and_by_reward_where_nobody_grades():
    def best(*scores: dict[str, float]) -> int | None:
        state = TrainerState()
        for state.step, each in enumerate(scores, start=1):
            _note_best(state, each)
        return state.best_step

    assert best({"accuracy": 0.0, "reward_mean": 0.1}, {"accuracy": 0.0, "reward_mean": 0.9}) == 1, "the first of equal ones"
    assert best({"accuracy": 0.5, "reward_mean": 0.9}, {"accuracy": 0.6, "reward_mean": 0.1}) == 2
    assert best({"reward_mean": 0.1}, {"reward_mean": 0.4}, {"reward_mean": 0.3}) == 2
    assert best({"reward_mean": 0.9}, {"accuracy": 0.0, "reward_mean": 0.1}, {"reward_mean": 1.0}) == 2, "accuracy goes first"
