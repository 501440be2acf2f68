import math
from dataclasses import replace

import pytest

from arpo.tree import NodeKind, RolloutTree
from arpo.tree.entropy import EntropyCurve, entropy_by_distance
from arpo.types import Message, Parse, Task, ToolCall, ToolResult

TASK = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="test")


def completion(tree, parent, entropies, tool=None):
    parse = Parse(calls=(ToolCall(name=tool, arguments={}),)) if tool else Parse()
    return tree.append(parent, NodeKind.COMPLETION, [1] * len(entropies), entropies=list(entropies), parse=parse)


def observation(tree, parent, length=3):
    return tree.append(parent, NodeKind.OBSERVATION, [2] * length, results=(ToolResult(content="x"),))


def forked_tree() -> RolloutTree:
    """first [0.1, 0.3] -search-> [0.8, 0.2] -python-> [0.4] and, forked after the search, [0.6]."""
    tree = RolloutTree.from_prompt(TASK, [0] * 7)
    first = completion(tree, tree.root, [0.1, 0.3], "search")
    found = observation(tree, first)
    second = completion(tree, found, [0.8, 0.2], "python")
    completion(tree, found, [0.6])
    completion(tree, observation(tree, second), [0.4])
    return tree


def test_hand_computed_tree():
    profile = entropy_by_distance([forked_tree()], max_distance=20)
    assert profile.before_tools.mean == [0.1, 0.3]
    assert profile.before_tools.count == [1, 1]  # the shared completion counts once, not once per leaf
    # distance 0: 0.8, 0.6 after the search and 0.4 after python; distance 1: 0.2; all behind the fork, with share 1/2
    assert profile.after_tool.mean == pytest.approx([0.6, 0.2])
    assert profile.after_tool.count == [3, 1]
    assert profile.after_tool.weight == [1.5, 0.5]
    assert profile.after_tool.standard_error == [None, None]  # one tree says nothing about the spread between trees
    assert list(profile.by_tool) == ["python", "search"]
    assert profile.by_tool["search"].mean == pytest.approx([0.7, 0.2])
    assert profile.by_tool["python"].mean == [0.4]


def test_a_curve_ends_where_few_turns_reach():
    curve = EntropyCurve([0.2, 0.6, 9.0], [0.1, None, None], [200, 10, 9])
    assert curve.common(0.05) == EntropyCurve([0.2, 0.6], [0.1, None], [200, 10])  # 5 % of 200 is 10
    assert curve.common(0) == curve
    assert replace(curve, weight=[9.0, 8.0, 7.0]).common(0.05).weight == [9.0, 8.0]
    assert EntropyCurve([], [], []).common(0.05) == EntropyCurve([], [], [])


def test_mean_of_the_first_tokens_counts_tokens():
    curve = EntropyCurve([0.2, 0.6, 9.0], [None] * 3, [3, 1, 1])
    assert curve.mean_of_first(2) == pytest.approx(0.3)  # (3 * 0.2 + 0.6) / 4
    assert curve.mean_of_first(5) == pytest.approx(2.04)  # (0.6 + 0.6 + 9) / 5
    assert replace(curve, weight=[1.0, 3.0, 1.0]).mean_of_first(2) == pytest.approx(0.5)  # (0.2 + 3 * 0.6) / 4


def test_observation_tokens_do_not_count_as_distance():
    short, long = (RolloutTree.from_prompt(TASK, [0]) for _ in range(2))
    for tree, length in ((short, 1), (long, 50)):
        completion(tree, observation(tree, completion(tree, tree.root, [0.1], "search"), length), [0.5, 0.25])
    assert entropy_by_distance([short], 5) == entropy_by_distance([long], 5)


def test_a_split_inside_a_completion_changes_nothing():
    def tree() -> RolloutTree:
        grown = RolloutTree.from_prompt(TASK, [0])
        called = completion(grown, grown.root, [0.1, 0.2, 0.3], "search")
        completion(grown, observation(grown, called), [0.9, 0.8, 0.7, 0.6], "search")
        return grown

    whole, cut = tree(), tree()
    cut.split(cut.nodes[1], 2)
    cut.split(cut.nodes[3], 1)
    assert entropy_by_distance([cut], 20) == entropy_by_distance([whole], 20)


@pytest.mark.parametrize(("max_distance", "expected"), [(0, [0.1]), (1, [0.1, 0.3]), (9, [0.1, 0.3])])
def test_max_distance_is_included(max_distance, expected):
    assert entropy_by_distance([forked_tree()], max_distance).before_tools.mean == expected


def test_standard_error_is_clustered_by_tree():
    # Tree one gives 0.2 and 0.4 at distance 0, tree two gives 0.9: m = 0.5, residual sums -0.4 and +0.4,
    # error = sqrt(2/1 · (0.16 + 0.16)) / 3 = 0.8 / 3
    one, two = (RolloutTree.from_prompt(TASK, [0]) for _ in range(2))
    completion(one, one.root, [0.2])
    completion(one, one.root, [0.4])
    completion(two, two.root, [0.9])
    curve = entropy_by_distance([one, two], 3).before_tools
    assert curve.mean == pytest.approx([0.5])
    assert curve.standard_error == pytest.approx([0.8 / 3])


def test_one_token_per_tree_gives_the_textbook_standard_error():
    values = [0.1, 0.5, 0.9, 0.3]
    trees = [RolloutTree.from_prompt(TASK, [0]) for _ in values]
    for tree, value in zip(trees, values, strict=True):
        completion(tree, tree.root, [value])
    mean = sum(values) / 4
    expected = math.sqrt(sum((v - mean) ** 2 for v in values) / 3 / 4)
    assert entropy_by_distance(trees, 0).before_tools.standard_error == pytest.approx([expected])


def test_an_unparsed_call_is_other_and_missing_entropies_are_skipped():
    tree = RolloutTree.from_prompt(TASK, [0])
    silent = tree.append(tree.root, NodeKind.COMPLETION, [1, 1])
    completion(tree, observation(tree, silent), [0.5])
    profile = entropy_by_distance([tree], 3)
    assert profile.before_tools.mean == []
    assert list(profile.by_tool) == ["other"]


def test_no_trees_is_empty_curves():
    profile = entropy_by_distance([], 20)
    assert profile.before_tools.mean == profile.after_tool.mean == []
    assert profile.by_tool == {}


def test_trees_weigh_their_tokens_by_shares():
    # Tree one forks behind its first token: 0.2 and 0.4 with 1/2; tree two 0.9: m = (0.3 + 0.9) / 2 = 0.6, residuals -0.3, 0.3,
    # error = sqrt(2/1 · (0.09 + 0.09)) / 2 = 0.6 / 2
    one, two = (RolloutTree.from_prompt(TASK, [0]) for _ in range(2))
    first = completion(one, one.root, [0.1])
    completion(one, first, [0.2])
    completion(one, first, [0.4])
    completion(two, two.root, [0.1, 0.9])
    curve = entropy_by_distance([one, two], 3).before_tools
    assert curve.mean == pytest.approx([0.1, 0.6])
    assert curve.standard_error == pytest.approx([0, 0.3])
    assert (curve.count, curve.weight) == ([2, 3], [2, 2])
