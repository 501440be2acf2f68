from collections.abc import Sequence
from itertools import product

import pytest

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.entropy import entropy_by_distance
from arpo.tree.statistics import TreeStatistics, measure_trees
from arpo.types import Message, Parse, Task, ToolCall, ToolResult

TASK = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="test")


def sample(tree: RolloutTree, parent: Node, entropies: list[float], *, call: str = "", answer: str | None = None, **fields):
    parse = Parse(calls=(ToolCall(name=call, arguments={}),) if call else (), answer=answer)
    return tree.append(parent, NodeKind.COMPLETION, [1] * len(entropies), entropies=entropies, parse=parse, **fields)


def observe(tree: RolloutTree, parent: Node, num_tokens: int = 3, *, score: float | None = None, **result):
    fields = {"results": (ToolResult(content="x", **result),), "entropy_delta": 0.1, "branch_score": score}
    return tree.append(parent, NodeKind.OBSERVATION, [2] * num_tokens, **fields)


def branched() -> RolloutTree:
    """Prompt [7 tokens] and three children of it, two of them planned.

    a [2] calls search -> result [3] -> b [3] calls python -> failed result [3] -> c [1] answers Moor
                                     -> d [2], a branch, answers moor
    e [4] calls search -> cached result [2] -> f [1] calls search again, without room for a result
    g [1] says nothing
    """
    tree = RolloutTree.from_prompt(TASK, [0] * 7)
    tree.settings = {"num_initial": 2}
    a = sample(tree, tree.root, [0.1, 0.3], call="search")
    found = observe(tree, a, score=0.6)
    b = sample(tree, found, [0.8, 0.2, 0.4], call="python")
    sample(tree, observe(tree, b, score=0.4, status="error"), [0.5], answer="Moor")
    sample(tree, found, [0.6, 0.7], answer="moor", is_branch=True)
    e = sample(tree, tree.root, [0.2, 0.2, 0.2, 0.2], call="search")
    sample(tree, observe(tree, e, 2, score=0.0, cached=True), [0.9], call="search")
    sample(tree, tree.root, [0.4])
    return tree


def test_every_figure_by_hand():
    found = measure_trees([branched()], window=2)
    by_turn, per_initial = found.pop("branch_rate_by_turn"), found.pop("leaves_per_initial_trajectory")
    assert found == pytest.approx(
        {
            "num_trees": 1,
            "num_trajectories": 4,  # c, d, f, g
            "leaves_per_group": 4,
            "num_initial": 2,
            "num_topups": 1,  # g
            "num_opportunities": 3,
            "num_branches": 1,
            "branch_rate": 1 / 3,
            # near: b 0.8 0.2, c 0.5, d 0.6 0.7, each with share 1/2, and f 0.9: (1.4 + 0.9) / (5/2 + 1)
            "entropy_after_tool": 2.3 / 3.5,
            # a 0.1 0.3, the rest of b 0.4 with share 1/2, e 4 x 0.2, g 0.4
            "entropy_elsewhere": 1.8 / 7.5,
            "entropy": 4.1 / 11,
            "tool_calls_issued": 4,  # a, b, e, f
            "tool_calls_independent": 5,  # c: a, b; d: a; f: e, f
            "tool_calls_executed": 2,  # of a and b
            "tool_calls_cached": 1,  # of e
            "tool_calls_refused": 0,
            "tool_calls_without_result": 1,  # of f
            "tool_errors": 1,  # of b
            "tokens_sampled": 2 + 3 + 1 + 2 + 4 + 1 + 1,
            "tokens_sampled_independent": (2 + 3 + 1) + (2 + 2) + (4 + 1) + 1,
            "tokens_unique": 7 + 14 + 3 + 3 + 2,
            "tokens_trajectory": (7 + 2 + 3 + 3 + 3 + 1) + (7 + 2 + 3 + 2) + (7 + 4 + 2 + 1) + (7 + 1),
            "distinct_call_sequences_per_task": 4,  # a, b; a; e, f; none
            "distinct_answers_per_task": 2,
            "answer_agreement": 0.0,
            "no_answer_rate": 2 / 4,
        }
    )
    assert per_initial == {"1": 2, "2": 1}
    assert by_turn == [
        {"turn": 1, "num_opportunities": 2, "num_branches": 1, "branch_rate": 0.5},
        {"turn": 2, "num_opportunities": 1, "num_branches": 0, "branch_rate": 0.0},
    ]


def test_trees_add_up():
    one, three = measure_trees([branched()], window=2), measure_trees([branched()] * 3, window=2)
    for name in ("num_branches", "tool_calls_issued", "tokens_sampled", "tokens_trajectory", "num_topups"):
        assert three[name] == 3 * one[name]
    for name in ("branch_rate", "entropy_after_tool", "no_answer_rate", "distinct_answers_per_task", "leaves_per_group"):
        assert three[name] == pytest.approx(one[name])
    assert three["leaves_per_initial_trajectory"] == {"1": 6, "2": 3}


def test_answers_are_compared_as_they_are_read():
    """Four answers of one tree: Moor, moor, MOOR, Tolva; 3 * 2 of the 4 * 3 ordered pairs agree once case is ignored."""
    tree = RolloutTree.from_prompt(TASK, [0])
    for answer in ("Moor", "moor ", "MOOR", "Tolva"):
        sample(tree, tree.root, [0.0], answer=answer)
    statistics = TreeStatistics(window=1, read_answer=lambda text: text.strip().lower())
    statistics.add(tree)
    assert statistics.summary()["distinct_answers_per_task"] == 2
    assert statistics.summary()["answer_agreement"] == 6 / 12
    assert measure_trees([tree], window=1)["answer_agreement"] == 0.0


def test_nothing_is_divided_by_zero():
    found = measure_trees([], window=2)
    assert found["num_trees"] == 0
    assert found["branch_rate"] is found["entropy_after_tool"] is found["answer_agreement"] is None
    assert found["branch_rate_by_turn"] == []


def test_a_completion_cut_for_a_branch_counts_as_a_whole():
    """The cut changes no figure, as no path starts at it; a path that does is a branch of the turn it leaves."""
    whole, cut = branched(), branched()
    long = next(n for n in cut.nodes if n.entropies == [0.8, 0.2, 0.4])
    first = cut.split(long, 1)
    assert measure_trees([cut], window=2) == measure_trees([whole], window=2)
    sample(cut, first, [0.9, 0.9], answer="x", is_branch=True)
    found = measure_trees([cut], window=2)
    assert [row["num_branches"] for row in found["branch_rate_by_turn"]] == [2, 0]
    assert found["leaves_per_initial_trajectory"] == {"1": 2, "3": 1}
    # one token of the new path has distance 1 from the result and is near, the other is not; what follows the fork in b has 1/4
    # near: b 0.8 with 1/2, 0.2 with 1/4, c 0.5 with 1/4, the new 0.9 with 1/4, d with 1/2, f: 0.8 / 2 + 1.6 / 4 + 1.3 / 2 + 0.9
    assert found["entropy_after_tool"] == pytest.approx(2.35 / (0.5 + 0.75 + 1 + 1))


def test_entropies_are_those_of_independent_trajectories():
    """Every group that a known policy can grow, as often as it does, with a fork wherever the first token is 1, and without.

    The first token is 1 once in four, and then the policy is unsure; one answer in four is long. A tree that forks has two
    answers drawn apart; figures over distinct tokens would count those twice.
    """
    firsts, answers = [0, 0, 0, 1], ["short", "short", "short", "long"]

    def tree(first: int, drawn: Sequence[str]) -> RolloutTree:
        grown = RolloutTree.from_prompt(TASK, [0])
        found = observe(grown, sample(grown, grown.root, [0.1 + 0.8 * first], call="search"))
        for answer in drawn:
            sample(grown, found, [0.2 + first] if answer == "short" else [0.5 + first, 0.4, 0.3, 0.2], answer=answer)
        return grown

    independent = [tree(first, [answer]) for first in firsts for answer in answers]
    branched = [tree(first, two if first else two[:1]) for first in firsts for two in product(answers, repeat=2)]
    assert any(len(t.leaves()) == 2 for t in branched)
    expected, found = measure_trees(independent, window=2), measure_trees(branched, window=2)
    for name in ("entropy", "entropy_after_tool", "entropy_elsewhere"):
        assert found[name] == pytest.approx(expected[name], rel=1e-12)
    distinct = [h for t in branched for node in t.nodes for h in node.entropies or []]
    assert sum(distinct) / len(distinct) > 1.1 * expected["entropy"]
    curves = [entropy_by_distance(trees, 9).after_tool for trees in (independent, branched)]
    assert curves[1].mean == pytest.approx(curves[0].mean, rel=1e-12)
    assert curves[1].mean_of_first(2) == pytest.approx(curves[0].mean_of_first(2), rel=1e-12)
