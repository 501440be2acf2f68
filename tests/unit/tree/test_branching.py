import pytest

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.branching import fork_records, initial_entropies, result_records
from arpo.tree.branching_statistics import measure_branching
from arpo.types import Message, Parse, Reward, Task, ToolCall, ToolResult

TASK = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="test")


def sample(tree: RolloutTree, parent: Node, entropies: list[float], *, call: str = "", reward: float | None = None, **fields):
    """A completion; rewards of 1 and more are right ones."""
    parse = Parse(calls=(ToolCall(name=call, arguments={}),) if call else ())
    node = tree.append(parent, NodeKind.COMPLETION, [1] * len(entropies), entropies=entropies, parse=parse, **fields)
    node.reward = None if reward is None else Reward(value=reward, is_correct=reward >= 1)
    return node


def observe(tree: RolloutTree, parent: Node, delta: float | None, requested: int | None) -> Node:
    return tree.append(
        parent, NodeKind.OBSERVATION, [2], results=(ToolResult(content="x"),), entropy_delta=delta, branches_requested=requested
    )


def grown() -> RolloutTree:
    """Two planned trajectories and a top-up, window 2, five leaves.

    a [.2 .4] search -> r1 (+.3, wants 2, gets 2) -> b [.7 .5 9] python -> r2 (-.1, wants 0) -> c [.2]      reward 0
                                                  -> d [.1], branch                                         reward 1
                                                  -> e [.6] search, branch -> r3 (+.2, not asked) -> f [.9] reward .5
    g [.05] search -> r4 (+.1, wants 1, gets 0) -> h [.3 .1]                                                reward 1.1
    i [.06 .08 5] search -> r5 (+.5, not asked) -> j [1]                                                    reward 0
    """
    tree = RolloutTree.from_prompt(TASK, [0])
    tree.settings = {"num_initial": 2, "entropy_window": 2}
    a = sample(tree, tree.root, [0.2, 0.4], call="search")
    r1 = observe(tree, a, 0.3, 2)
    b = sample(tree, r1, [0.7, 0.5, 9], call="python")
    sample(tree, observe(tree, b, -0.1, 0), [0.2], reward=0)
    sample(tree, r1, [0.1], reward=1, is_branch=True)
    e = sample(tree, r1, [0.6], call="search", is_branch=True)
    sample(tree, observe(tree, e, 0.2, None), [0.9], reward=0.5)
    g = sample(tree, tree.root, [0.05], call="search")
    sample(tree, observe(tree, g, 0.1, 1), [0.3, 0.1], reward=1.1)
    i = sample(tree, tree.root, [0.06, 0.08, 5], call="search")
    sample(tree, observe(tree, i, 0.5, None), [1.0], reward=0)
    return tree


def test_records_by_hand():
    tree = grown()
    found = [
        (r.turn, r.tool, r.initial_entropy, r.entropy_after, r.entropy_delta, r.is_rise, r.fate) for r in result_records(tree)
    ]
    assert found == [
        (1, "search", pytest.approx(0.3), pytest.approx(0.6), 0.3, True, "branched"),  # (.2 + .4)/2; (.7 + .5)/2
        (2, "python", pytest.approx(0.3), pytest.approx(0.2), -0.1, False, "declined"),
        (2, "search", pytest.approx(0.3), pytest.approx(0.9), 0.2, True, "no_budget"),
        (1, "search", pytest.approx(0.05), pytest.approx(0.2), 0.1, True, "no_budget"),  # (.3 + .1)/2
        (1, "search", pytest.approx(0.07), pytest.approx(1.0), 0.5, True, "topup"),  # (.06 + .08)/2
    ]
    (fork,) = fork_records(tree)
    # the branches: leaves of reward 1 and 0.5
    assert (fork.turn, fork.tool, fork.num_branches, fork.original_reward, fork.branch_reward) == (1, "search", 2, 0, 0.75)
    assert fork.reward_gain == 0.75
    assert fork.is_mixed is True
    assert [r.fork for r in result_records(tree)] == [fork, None, None, None, None]


def test_statistics_by_hand():
    found = measure_branching([grown()])
    assert found["initial_entropy"] == pytest.approx((0.3 + 0.05 + 0.07) / 3)
    assert found["unsure_start_rate"] == pytest.approx(1 / 3)
    fates = {"branched": 1, "declined": 1, "no_budget": 2, "topup": 1, "not_asked": 0}
    results = found["results"]
    assert (results["fates"], results["rise_fates"]) == (fates, fates | {"declined": 0})
    # r1 forks in three: what stands behind it counts a third, r2 as r3; r1, r4 and r5 count whole
    assert results["num_results"] == 5
    assert results["rise_rate"] == pytest.approx((3 + 1 / 3) / (3 + 2 / 3))
    assert (results["branched_rate"], results["rise_branched_rate"]) == (1 / 5, 1 / 4)
    assert results["entropy_after"] == pytest.approx((0.6 + (0.2 + 0.9) / 3 + 0.2 + 1) / (3 + 2 / 3))
    by_tool = {row["tool"]: row for row in found["results_by_tool"]}
    assert (by_tool["python"]["entropy_after"], by_tool["python"]["rise_rate"]) == (pytest.approx(0.2), 0)
    assert by_tool["search"]["entropy_after"] == pytest.approx((0.6 + 0.9 / 3 + 0.2 + 1) / (3 + 1 / 3))
    assert found["forks"] == {
        "num_forks": 1, "num_branches": 2, "original_reward": 0, "branch_reward": 0.75, "reward_gain": 0.75,
        "reward_gain_error": None, "mixed_rate": 1,
    }  # fmt: skip
    assert found["forks_by_turn"] == [{"turn": 1, **found["forks"]}]
    assert found["forks_by_tool"] == [{"tool": "search", **found["forks"]}]


def test_the_error_of_the_gain_is_clustered_by_tree():
    """Gains 0.75, 0.75 and 0.25 of three trees: mean 7/12, G = 3, sqrt(3/2 (2 (1/6)^2 + (1/3)^2)) / 3 = 1/6."""
    other = grown()
    for leaf in other.leaves():
        if leaf.reward is not None and leaf.reward.value == 0:
            leaf.reward = Reward(value=0.5)
    assert measure_branching([grown(), grown(), other])["forks"]["reward_gain"] == pytest.approx(7 / 12)
    assert measure_branching([grown(), grown(), other])["forks"]["reward_gain_error"] == pytest.approx(1 / 6)


def test_trees_add_up():
    one, three = measure_branching([grown()]), measure_branching([grown()] * 3)
    assert three["results"]["fates"] == {fate: 3 * n for fate, n in one["results"]["fates"].items()}
    assert three["forks"]["num_branches"] == 6
    for name in ("initial_entropy", "unsure_start_rate"):
        assert three[name] == pytest.approx(one[name])
    assert three["results"]["entropy_after"] == pytest.approx(one["results"]["entropy_after"])
    assert three["forks"]["reward_gain_error"] == 0


def test_a_fork_inside_a_completion_has_no_tool_and_moves_no_window():
    """b is cut after one token: the window after r1 is still .7 and .5, and the new path is a fork at turn 1."""
    tree = grown()
    before = result_records(tree)
    cut = tree.split(tree.nodes[tree.children[2][0]], 1)
    sample(tree, cut, [0.4], reward=1, is_branch=True)
    found = result_records(tree)
    assert [(r.turn, r.tool, r.entropy_after, r.entropy_delta, r.fate) for r in found] == [
        (r.turn, r.tool, r.entropy_after, r.entropy_delta, r.fate) for r in before
    ]
    outer, inner = fork_records(tree)
    assert outer.original_reward == pytest.approx(1 / 2)  # c and the new leaf
    assert (inner.tool, inner.turn, inner.original_reward, inner.branch_reward) == (None, 1, 0, 1)
    assert [row["tool"] for row in measure_branching([tree])["forks_by_tool"]] == ["search", None]


def test_a_start_cut_by_a_fork_counts_once_with_its_original():
    tree = RolloutTree.from_prompt(TASK, [0])
    tree.settings = {"entropy_window": 2}
    cut = tree.split(sample(tree, tree.root, [0.1, 0.5, 3.0]), 1)
    sample(tree, cut, [2.0], is_branch=True)
    assert initial_entropies(tree) == [pytest.approx(0.3)]


def test_the_surprisal_estimator_reads_log_probs():
    tree = RolloutTree.from_prompt(TASK, [0])
    tree.settings = {"entropy_window": 1, "entropy_estimator": "surprisal"}
    sample(tree, tree.root, [0.1], logprobs=[-0.7])
    assert initial_entropies(tree) == [0.7]


def test_a_group_without_branches():
    """As GRPO samples it: no result was asked about, and none is called short of budget."""
    tree = RolloutTree.from_prompt(TASK, [0])
    tree.settings = {"num_initial": 2, "entropy_window": 1}
    for delta in (0.2, -0.1):
        call = sample(tree, tree.root, [0.1], call="search")
        sample(tree, observe(tree, call, delta, None), [0.3], reward=1)
    found = measure_branching([tree])
    assert found["results"]["fates"] == {"branched": 0, "declined": 0, "no_budget": 0, "topup": 0, "not_asked": 2}
    assert found["results"]["rise_rate"] == 0.5
    assert (found["forks"]["num_forks"], found["forks"]["reward_gain"], found["forks_by_turn"]) == (0, None, [])


def test_what_was_not_measured_is_none():
    """No window in the settings, no rewards; a result that no completion followed is not read."""
    tree = RolloutTree.from_prompt(TASK, [0])
    call = sample(tree, tree.root, [0.1], call="search")
    sample(tree, found := observe(tree, call, None, None), [0.3], call="search")
    branch = sample(tree, found, [0.3], call="search", is_branch=True)
    observe(tree, branch, None, None)
    (record,) = result_records(tree)
    assert (record.initial_entropy, record.entropy_after, record.is_rise, record.fate) == (None, None, False, "branched")
    assert record.fork is not None
    assert (record.fork.original_reward, record.fork.branch_reward, record.fork.reward_gain) == (None, None, None)
    assert record.fork.is_mixed is None
    for found in (measure_branching([tree]), measure_branching([])):
        assert found["initial_entropy"] is found["unsure_start_rate"] is None
        assert found["results"]["entropy_after"] is found["results"]["rise_rate"] is None
        assert found["forks"]["reward_gain"] is found["forks"]["mixed_rate"] is None
