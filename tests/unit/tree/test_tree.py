"""A tree's paths concatenate to what the model saw, whatever was forked, split or renumbered."""

from random import Random

import pytest

from arpo.tree import Node, NodeCredit, NodeKind, RolloutTree
from arpo.types import Message, Parse, StopReason, Task, ToolResult

COMPLETION, OBSERVATION = NodeKind.COMPLETION, NodeKind.OBSERVATION
TASK = Task(id="t", messages=(Message(role="user", content="Where?"),), references=("there",), source="test")


def sample(tree: RolloutTree, parent: Node, ids: list[int], **fields: object) -> Node:
    return tree.append(parent, COMPLETION, ids, logprobs=[-t / 10 for t in ids], entropies=[t / 10 for t in ids], **fields)


@pytest.fixture
def tree() -> RolloutTree:
    """The docstring's: prompt 5, completion a 3, observation 4, completion b 2 and, forked, completion c 6."""
    tree = RolloutTree.from_prompt(TASK, [1, 2, 3, 4, 5], "Where?")
    a = sample(tree, tree.root, [6, 7, 8], text="a", stop_reason=StopReason.STOP_STRING)
    seen = tree.append(a, OBSERVATION, [9, 10, 11, 12], text="r", results=(ToolResult(content="r"),))
    sample(tree, seen, [13, 14], text="b", stop_reason=StopReason.EOS, parse=Parse(answer="b"))
    sample(tree, seen, [15, 16, 17, 18, 19, 20], text="c", is_branch=True)
    return tree


def test_counts_are_those_of_the_docstring(tree: RolloutTree) -> None:
    assert len(tree.nodes) == 5
    assert tree.num_unique_tokens == 5 + 3 + 4 + 2 + 6 == 20
    assert tree.num_trajectory_tokens == (5 + 3 + 4 + 2) + (5 + 3 + 4 + 6) == 32
    assert [leaf.text for leaf in tree.leaves()] == ["b", "c"]


def test_a_trajectory_is_the_path_of_its_leaf(tree: RolloutTree) -> None:
    first, second = tree.trajectories()
    assert first.token_ids == list(range(1, 15))
    assert second.token_ids == [*range(1, 13), *range(15, 21)]
    assert first.loss_mask == [False] * 5 + [True] * 3 + [False] * 4 + [True] * 2
    assert second.num_sampled_tokens == 3 + 6
    assert [n.kind for n in first.nodes] == [NodeKind.PROMPT, COMPLETION, OBSERVATION, COMPLETION]
    assert (first.response_text, second.response_text) == ("arb", "arc")
    assert [n.text for n in first.observations] == ["r"]
    assert first.task is TASK
    assert first.leaf is tree.nodes[3]


def test_turns_count_observations_on_the_path(tree: RolloutTree) -> None:
    assert [n.turn for n in tree.nodes] == [0, 0, 1, 1, 1]


def test_a_bare_prompt_has_no_leaf() -> None:
    tree = RolloutTree.from_prompt(TASK, [1])
    assert tree.leaves() == tree.trajectories() == []
    assert (tree.num_unique_tokens, tree.num_trajectory_tokens) == (1, 0)


def test_a_node_of_another_tree_cannot_be_a_parent(tree: RolloutTree) -> None:
    small = RolloutTree.from_prompt(TASK, [1, 2, 3, 4, 5], "Where?")
    for stranger in (tree.root, tree.nodes[4]):  # one whose id exists in the small tree, and one whose id does not
        with pytest.raises(ValueError, match="not in this tree"):
            small.append(stranger, COMPLETION, [1])
    with pytest.raises(ValueError, match="not a continuation"):
        small.append(small.root, NodeKind.PROMPT, [1])


def test_split_changes_no_path(tree: RolloutTree) -> None:
    leaf = tree.nodes[4]
    before = [(t.token_ids, t.loss_mask, [x for n in t.completions for x in n.logprobs or []]) for t in tree.trajectories()]
    first = tree.split(leaf, 2)
    rest = tree.nodes[-1]
    after = [(t.token_ids, t.loss_mask, [x for n in t.completions for x in n.logprobs or []]) for t in tree.trajectories()]
    assert after == before
    assert (first.id, first.token_ids, rest.token_ids) == (4, [15, 16], [17, 18, 19, 20])
    assert (first.entropies, rest.entropies) == ([1.5, 1.6], [1.7, 1.8, 1.9, 2.0])
    assert rest.parent == 4


def test_split_hands_children_parse_and_stop_reason_to_the_rest(tree: RolloutTree) -> None:
    a = tree.nodes[1]
    a.parse = Parse(num_think_blocks=1)
    a.step_reward, a.step_metrics = 0.5, {"moves": 1.0}
    tree.split(a, 1)
    rest = tree.nodes[-1]
    assert (a.parse, a.stop_reason) == (None, None)
    assert (rest.parse, rest.stop_reason) == (Parse(num_think_blocks=1), StopReason.STOP_STRING)
    assert ((a.step_reward, a.step_metrics), (rest.step_reward, rest.step_metrics)) == ((None, {}), (0.5, {"moves": 1.0}))
    assert tree.nodes[2].parent == rest.id
    forked = sample(tree, a, [30])
    assert tree.trajectory(forked).token_ids == [1, 2, 3, 4, 5, 6, 30]


@pytest.mark.parametrize(("node", "offset"), [(4, 0), (4, 6), (4, -1), (2, 1), (0, 1)])
def test_split_refuses_what_it_cannot_cut(tree: RolloutTree, node: int, offset: int) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        tree.split(tree.nodes[node], offset)


def test_depth_first_order_keeps_parents_first_and_siblings_by_creation(tree: RolloutTree) -> None:
    top_up = sample(tree, tree.root, [40])
    late = tree.append(tree.nodes[3], OBSERVATION, [41])
    assert [n.id for n in tree.depth_first()] == [0, 1, 2, 3, late.id, 4, top_up.id]


@pytest.mark.parametrize("seed", range(5))
def test_renumbering_forgets_the_order_of_creation(seed: int) -> None:
    """Two growths of one tree in different orders are equal once renumbered by the nodes' keys."""
    # (key of parent, key): children of one node differ in their last entry
    edges = [((), (0,)), ((), (1,)), ((0,), (0, 0)), ((0,), (0, 1)), ((1,), (1, 0)), ((0, 1), (0, 1, 0)), ((0, 1), (0, 1, 1))]
    trees = []
    for shuffle in (Random(seed), Random(seed + 100)):
        tree = RolloutTree.from_prompt(TASK, [0])
        made = {(): tree.root}
        waiting = list(edges)
        while waiting:
            ready = [e for e in waiting if e[0] in made]
            parent, key = shuffle.choice(ready)
            waiting.remove((parent, key))
            made[key] = sample(tree, made[parent], [len(key), *key])
        keys = {node.id: key for key, node in made.items()}
        trees.append(tree.renumbered(lambda node, keys=keys: keys[node.id]))
    assert trees[0] == trees[1]
    assert [n.id for n in trees[0].depth_first()] == list(range(8))
    assert [leaf.token_ids for leaf in trees[0].leaves()] == [[2, 0, 0], [3, 0, 1, 0], [3, 0, 1, 1], [2, 1, 0]]


def test_credit_goes_with_its_node_when_nodes_are_renumbered() -> None:
    tree = RolloutTree.from_prompt(TASK, [0])
    for token in (3, 1, 2):
        sample(tree, tree.root, [token])
    tree.credit = NodeCredit(weights=[6.0, 3.0, 1.0, 2.0], advantages=[0.4, 0.3, 0.1, 0.2])
    sorted_tree = tree.renumbered(lambda node: (node.token_ids[0],))
    assert [node.token_ids for node in sorted_tree.nodes] == [[0], [1], [2], [3]]
    assert sorted_tree.credit == NodeCredit(weights=[6.0, 1.0, 2.0, 3.0], advantages=[0.4, 0.1, 0.2, 0.3])
