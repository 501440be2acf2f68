"""Which groups teach: by reward, and by correctness for dynamic sampling."""

from dataclasses import replace

import pytest

from arpo.training.algorithm_config import KlConfig, OverlongConfig
from arpo.training.group_signal import differs_in_correctness, differs_in_reward
from arpo.training.shaping import shape_rewards


@pytest.fixture
def scored(make_tree):
    """A tree whose three leaves have these rewards and verdicts."""

    def make(values, verdicts):
        tree = make_tree(values)
        for leaf, verdict in zip(tree.leaves(), verdicts, strict=True):
            leaf.reward = replace(leaf.reward, is_correct=verdict)
        return tree

    return make


@pytest.mark.parametrize(
    ("values", "verdicts", "in_reward", "in_correctness"),
    [
        ((1.0, 1.0, 1.0), (True, True, True), False, False),
        ((1.0, 0.0, 0.0), (True, False, False), True, True),
        ((1.1, 1.0, 1.0), (True, True, True), True, False),  # a bonus
        ((0.2, 0.6, -1.0), (False, False, False), True, False),  # partial credit, a format fault
        ((0.5, 0.5, 0.5), (True, False, True), False, True),
        ((0.2, 0.6, 0.2), (None, None, None), True, True),  # nobody says what is right
        ((0.2, 0.2, 0.2), (None, None, None), False, False),
        ((0.2, 0.2, 0.2), (True, None, False), False, False),
    ],
)
def test_rewards_and_verdicts(scored, values, verdicts, in_reward, in_correctness):
    tree = scored(values, verdicts)
    assert (differs_in_reward(tree), differs_in_correctness(tree)) == (in_reward, in_correctness)


def test_an_overlong_right_answer_is_no_signal(scored):
    """5, 9 and 1 sampled tokens, limit 9, buffer 4: the second loses 1, so that shaped rewards differ."""
    tree = scored((1.0, 1.0, 1.0), (True, True, True))
    (shaped,) = shape_rewards([tree], OverlongConfig(penalty=1.0, max_tokens=9, buffer=0.4), KlConfig(), max_tokens=100)
    assert shaped.tolist() == [1.0, 0.0, 1.0]
    assert not differs_in_correctness(tree)
