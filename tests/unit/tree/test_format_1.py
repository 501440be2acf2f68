"""Trees of the former file format are read: `format_1.jsonl` is a tree of six steps of the quickstart, cut to two leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.tree import RolloutTree, read_trees, tree_from_dict, tree_to_dict
from arpo.types import Reward

FILE = Path(__file__).with_name("format_1.jsonl")


def read(**changes: Any) -> RolloutTree:
    """The tree, with another reward on its first leaf."""
    data = json.loads(FILE.read_text())
    data["nodes"][3] |= changes
    return tree_from_dict(data)


def test_a_real_file_is_read():
    (tree,) = read_trees(FILE)
    right, wrong = tree.leaves()
    measured = {"exact_match": 1.0, "f1": 1.0, "format": 1.0, "multi_tool_bonus": 0.0}
    assert right.reward == Reward(
        value=1.0, is_correct=True, components={"accuracy": 1.0, **measured}, reason="F1 1 with 'Borwell'"
    )
    assert (wrong.reward.value, wrong.is_correct, wrong.reward.reason) == (0.0, False, "no word of a reference")
    assert [node.reward for node in tree.nodes[:3]] == [None] * 3
    assert tree.nodes[2].results[0].status == "success", "what was said of its retries is left out"
    assert [(call.name, call.arguments) for call in tree.nodes[1].calls] == [("search", {"query": "Sogu Solum born"})]
    assert (right.calls, right.parse.answer) == ((), "\\boxed{ Borwell}")
    assert [node.is_done for node in tree.nodes] == [False, False, False, True, True]
    assert tree.credit is not None
    assert (tree.credit.weights, tree.credit.advantages[0]) == ([16.0, 2.0, 2.0, 1.0, 1.0], 3.469446951953614e-18)
    assert tree.credit.advantages[3:] == [0.24999900000400002, -3.74998500006]
    assert tree.seconds == 0.5221
    assert tree.settings["rule"] == "arpo"


def test_it_is_written_in_the_present_format():
    (tree,) = read_trees(FILE)
    assert tree_to_dict(tree)["version"] == 2
    assert tree_from_dict(json.loads(json.dumps(tree_to_dict(tree)))) == tree


@pytest.mark.parametrize(
    ("components", "is_correct"),
    [
        ({"judge": 1.0, "exact_match": 0.0, "accuracy": 1.0}, True),
        ({"judge": 0.0, "exact_match": 1.0}, False),
        ({"exact_match": 1.0, "accuracy": 0.0}, True),
        ({"exact_match": 0.0, "accuracy": 1.0}, False),
        ({"accuracy": 1.0}, True),
        ({"accuracy": 0.5}, False),
        ({"mine": 1.0}, None),
        ({}, None),
    ],
)
def test_what_was_right_is_read_from_the_components(components: dict[str, float], is_correct: bool | None):
    assert read(reward_components=components).leaves()[0].is_correct is is_correct


def test_an_ungraded_answer_has_no_reward():
    tree = read(reward=None, reward_components={"ungraded": 1.0, "f1": 0.5}, reward_reason="ungraded: the server failed")
    assert (tree.leaves()[0].reward, tree.leaves()[0].ungraded) == (None, "the server failed")


def test_a_tree_nobody_scored_stays_so():
    data = json.loads(FILE.read_text())
    for node in data["nodes"]:
        for key in ("reward", "reward_components", "reward_reason"):
            node.pop(key, None)
    assert all((leaf.reward, leaf.ungraded) == (None, "") for leaf in tree_from_dict(data).leaves())


def test_several_calls_and_results_of_a_turn_keep_their_order():
    data = json.loads(FILE.read_text())
    call, result = data["nodes"][1]["parse"]["tool_call"], data["nodes"][2]["tool_result"]
    data["nodes"][1]["parse"]["further_calls"] = [call | {"name": "second"}, call | {"name": "third"}]
    data["nodes"][2]["further_results"] = [result | {"content": "2"}, result | {"content": "3", "may_pass": True}]
    tree = tree_from_dict(data)
    assert [call.name for call in tree.nodes[1].calls] == ["search", "second", "third"]
    assert [result.content[:6] for result in tree.nodes[2].results] == ["Page 1", "2", "3"]


def test_an_episode_that_ends_with_a_call_is_not_done():
    called = {"tool_call": {"name": "search", "arguments": {}, "fault": ""}, "further_calls": [], "answer": None}
    assert [leaf.is_done for leaf in read(parse=called | {"num_think_blocks": 0, "faults": []}).leaves()] == [False, True]


def test_a_tree_nothing_was_learned_from_has_no_credit():
    data = json.loads(FILE.read_text())
    for node in data["nodes"]:
        del node["weight"], node["advantage"]
    assert tree_from_dict(data).credit is None
