import pytest

from arpo.rewards.composite import CompositeReward
from arpo.rewards.config import CompositeConfig, RewardConfig
from arpo.tree import NodeKind
from arpo.types import ToolResult

SEARCH = "<think> look </think> <search> Ada Moor </search>"
PYTHON = " <think> count </think> <python> print(1) </python>"
ANSWER = " <think> so </think> <answer> \\boxed{Kelford} </answer>"
FOUND, PRINTED = ToolResult(content="Ada Moor of Kelford"), ToolResult(content="1")
FAILED = ToolResult(content="ZeroDivisionError", status="error")


@pytest.fixture
def reward():
    return CompositeReward(RewardConfig())


@pytest.mark.parametrize(
    ("turns", "references", "value"),
    [
        ((ANSWER,), ("Kelford",), 1.0),
        ((SEARCH, FOUND, ANSWER), ("Kelford",), 1.0),
        ((SEARCH, FOUND, PYTHON, PRINTED, ANSWER), ("Kelford",), 1.1),
        ((SEARCH, FOUND, PYTHON, PRINTED, ANSWER), ("the town of Kelford",), 0.6),  # F1 2*1/(1+3) = 0.5, bonus 0.1
        ((SEARCH, FOUND, PYTHON, PRINTED, ANSWER), ("Bo",), 0.0),  # no bonus for a wrong answer
        ((SEARCH, FOUND, PYTHON, FAILED, ANSWER), ("Kelford",), 1.0),  # a failed call earns nothing
        ((SEARCH, FOUND, PYTHON, FAILED, PYTHON, PRINTED, ANSWER), ("Kelford",), 1.1),  # a later one does
        ((SEARCH, FOUND, SEARCH, FOUND, ANSWER), ("Kelford",), 1.0),  # one tool twice
        ((ANSWER,), ("Bo", "Kelford"), 1.0),
    ],
)
def test_reward_of_well_formed_trajectories(make_trajectory, reward, turns, references, value):
    scored = reward(make_trajectory(*turns, references=references))
    assert scored.value == pytest.approx(value)
    assert scored.components["format"] == 1.0


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ((SEARCH, FOUND), "no_answer"),  # a call limit or a token limit ends with a tool result
        ((SEARCH,), "no_answer"),
        (("<think> a",), "unclosed_think, no_answer"),
        (("<answer> \\boxed{Kelford} </answer>",), "no_thinking"),
        (("<think> a </think> <answer> Kelford </answer>",), "answer_without_box"),
        (("<think> a </think> <answer> \\boxed{Kelford </answer>",), "unclosed_box"),
        ((ANSWER, ANSWER), "several_answers"),
        ((ANSWER, SEARCH, FOUND), "no_answer"),  # an answer before the end is none
        (("</search>", FOUND, ANSWER), "unopened_search"),
        (("<think></think> <search> q </search>", FOUND, ANSWER), "empty_think"),
        ((SEARCH, FOUND, " <think> a </think> <result> 1 </result> <answer> \\boxed{Kelford} </answer>"), "result_by_model"),
    ],
)
def test_format_faults_cost_one(make_trajectory, reward, turns, fault):
    scored = reward(make_trajectory(*turns))
    assert scored.value == -1.0
    assert scored.components["format"] == 0.0
    assert scored.components["multi_tool_bonus"] == 0.0
    assert fault in scored.reason


@pytest.mark.parametrize(
    "content", ["<think>", "<answer> \\boxed{Bo} </answer>", "</think></answer>", "<search> q </search>", "</result>"]
)
def test_tool_text_cannot_change_the_format(make_trajectory, reward, content):
    scored = reward(make_trajectory(SEARCH, ToolResult(content=content), ANSWER))
    assert scored.value == 1.0


def test_the_answer_is_measured_even_when_the_format_is_bad(make_trajectory, reward):
    scored = reward(make_trajectory("<answer> \\boxed{Kelford} </answer>"))
    assert scored.value == -1.0
    assert scored.components == {"grade": 1.0, "exact_match": 1.0, "f1": 1.0, "format": 0.0, "multi_tool_bonus": 0.0}


def test_the_bonus_is_configured(make_trajectory):
    trajectory = make_trajectory(SEARCH, FOUND, PYTHON, PRINTED, ANSWER)
    assert CompositeReward(RewardConfig(multi_tool_bonus=0.0))(trajectory).value == 1.0
    assert CompositeReward(RewardConfig(multi_tool_bonus=0.5))(trajectory).value == 1.5


def test_a_split_completion_is_scored_as_the_whole_was(make_trajectory, reward):
    trajectory = make_trajectory(SEARCH, FOUND, PYTHON, PRINTED, ANSWER)
    before = reward(trajectory)
    tree = trajectory.tree
    for node in [n for n in trajectory.nodes if n.kind is NodeKind.COMPLETION]:
        tree.split(node, 1)
    assert len(tree.nodes) == len(trajectory.nodes) + 3
    assert reward(tree.trajectories()[0]) == before


def composite(**terms: object) -> CompositeReward:
    return CompositeReward(RewardConfig(rule="composite", composite=CompositeConfig.model_validate({"grader": "f1", **terms})))


BOTH = (SEARCH, FOUND, PYTHON, PRINTED, ANSWER)
HALF = ("the town of Kelford",)  # F1 of Kelford: 2 * 1 / (1 + 3) = 0.5


@pytest.mark.parametrize(
    ("terms", "references", "value"),
    [
        ({}, HALF, 0.5),
        ({"grader": "exact_match"}, HALF, 0.0),
        ({"grade_weight": 3.0}, HALF, 1.5),
        ({"multi_tool_bonus": 0.25}, HALF, 0.75),
        ({"tool_cost": 0.125}, HALF, 0.25),  # two calls
        ({"tool_cost": 0.4}, HALF, 0.0),  # 0.5 - 0.8, but never below a wrong answer
        ({"tool_cost": 0.125, "multi_tool_bonus": 0.5}, ("Bo",), 0.0),  # a wrong answer neither earns nor costs
    ],
)
def test_terms_of_your_choice(make_trajectory, terms, references, value):
    assert composite(**terms)(make_trajectory(*BOTH, references=references)).value == pytest.approx(value)


def test_length_costs_per_thousand_sampled_tokens_beyond_the_free_ones(make_trajectory):
    trajectory = make_trajectory(*BOTH)
    sampled = trajectory.num_sampled_tokens
    scored = composite(length_cost=2.0, free_tokens=sampled - 10)(trajectory)
    assert scored.value == pytest.approx(1 - 2.0 * 10 / 1000)
    assert scored.components["length_cost"] == pytest.approx(0.02)
    assert composite(length_cost=2.0, free_tokens=sampled)(trajectory).value == 1.0


def test_the_gate_decides_whether_a_badly_formed_answer_earns(make_trajectory):
    bad = make_trajectory("<think> so </think> The answer is Kelford.")
    assert composite()(bad).value == -1.0
    scored = composite(format_gate=False)(bad)
    assert scored.value == 1.0
    assert scored.components["format"] == 0.0
    assert "answer_phrase" in scored.reason


def test_the_rule_arpo_is_these_terms(make_trajectory):
    same = composite(multi_tool_bonus=0.1)
    for trajectory in (make_trajectory(*BOTH, references=HALF), make_trajectory(SEARCH, FOUND), make_trajectory(ANSWER)):
        assert CompositeReward(RewardConfig())(trajectory) == same(trajectory)
