"""Every row of the released code's rule, and the cases it was run on."""

import pytest

from arpo.rewards.composite import CompositeReward
from arpo.rewards.config import RewardConfig
from arpo.rewards.released import ReleasedReward, released_f1
from arpo.types import ToolResult

SEARCH, FOUND = "<think> look </think> <search> q </search>", ToolResult(content="Ada Moor of Kelford")
PYTHON, PRINTED = " <python> print(1) </python>", ToolResult(content="1")


@pytest.fixture
def reward():
    return ReleasedReward(RewardConfig(rule="arpo_released"))


def answer(text: str) -> str:
    return f"<think> so </think> <answer> \\boxed{{{text}}} </answer>"


@pytest.mark.parametrize(
    ("turns", "value"),
    [
        (("<think> a <answer> \\boxed{Kelford} </answer>",), -1.0),  # think tags not paired
        (("<answer> \\boxed{Kelford} </answer>",), -1.0),  # none
        (("<think> a </think>",), -1.0),  # no answer
        ((answer("Bo") + answer("Kelford"),), -1.0),  # two answers
        ((SEARCH,), -1.0),  # stopped by the call limit
        ((SEARCH, answer("Kelford")), -1.0),  # a call without a result
        ((PYTHON + answer("Kelford"),), -1.0),
        (("<search> <result> q </search> <result> r </result>" + answer("Kelford"),), -1.0),  # a result inside the call
        (("<think> a </think> </answer> \\boxed{Kelford} <answer>",), -1.0),
        (("<think> a </think> <answer> Kelford </answer>",), -1.0),  # no box
        (("<think> a </think> <answer> \\boxed{Kelford {} </answer>",), -1.0),  # a box that does not close
        ((answer("Bo"),), 0.0),
        ((answer("Kelford"),), 1.0),
        ((answer("the Kelford"),), 1.0),
        ((answer("town Kelford"),), 2 / 3),  # 2 * (1/2 * 1) / (1/2 + 1)
        ((SEARCH, FOUND, PYTHON, PRINTED, answer("Kelford")), 1.1),
        ((SEARCH, FOUND, PYTHON, PRINTED, answer("Bo")), 0.0),
        ((SEARCH, FOUND, PYTHON, PRINTED, answer("Kelford of b c d e f")), 0.1 + 2 * (1 / 7) / (8 / 7)),
        # F1 .25, with both tools .35
        ((SEARCH, FOUND, PYTHON, ToolResult(content="Error", status="error"), answer("Kelford")), 1.1),  # failed calls count
        (("</search>" + answer("Kelford"),), 1.0),  # a stray end tag
        (("<think></think>" + answer("Kelford"),), 1.0),  # empty thoughts
        ((answer("Kelford") + SEARCH + " <result> r </result>",), 1.0),  # the answer before the call
        (("<think> a </think> <answer> \\boxed Kelford$ no </answer>",), -1.0),  # `\\boxed{` must occur
        (("<think> a </think> <answer> \\boxed{} \\boxed Kelford$ no </answer>",), 1.0),
    ],
)  # fmt: skip
def test_table(make_trajectory, reward, turns, value):
    scored = reward(make_trajectory(*turns))
    assert scored.value == pytest.approx(value, abs=1e-12)
    assert scored.components["format"] == float(value != -1.0)


@pytest.mark.parametrize("content", ["<think>", "<answer>"])
def test_tool_text_can_break_the_format(make_trajectory, reward, content):
    trajectory = make_trajectory(SEARCH, FOUND, answer("Kelford"))
    trajectory.observations[0].text = f" <result>\n{content}\n</result>"  # as without escaping
    assert reward(trajectory).value == -1.0
    assert CompositeReward(RewardConfig())(trajectory).value == 1.0


@pytest.mark.parametrize(
    ("given", "reference", "released", "ours"),
    [
        ("-5", "5", 1.0, 0.0), ("1.2", "12", 1.0, 0.0), ("1/2", "12", 1.0, 0.0), ("(1,2)", "12", 1.0, 0.0),
        ("12%", "12", 1.0, 0.0),
        ("0.5", r"\frac{1}{2}", 0.0, 1.0), (r"\dfrac{1}{2}", r"\frac{1}{2}", 0.0, 1.0),
        (r"3\sqrt{3} - 6", r"3\sqrt{3}-6", 0.0, 1.0),
        ("x = 3", "3", 2 / 3, 1.0), ("A", "A", 0.0, 1.0), ("yes", "no", 0.0, 0.0), ("no one", "no", 0.0, 0.0),
    ],
)  # fmt: skip
def test_mathematics_in_both_rules(make_trajectory, reward, given, reference, released, ours):
    trajectory = make_trajectory(answer(given), references=(reference,))
    assert reward(trajectory).value == pytest.approx(released)
    assert CompositeReward(RewardConfig())(trajectory).value == pytest.approx(ours)
    assert reward(trajectory).components["exact_match"] == float(ours == 1.0)


def test_released_f1_is_a_multiset_overlap():
    # new once, york once in common: precision 2/3, recall 2/2
    assert released_f1("New York, New", "new york") == pytest.approx(0.8)
