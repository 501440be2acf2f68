from arpo.tree import NodeKind, RolloutTree
from arpo.tree.shares import node_shares
from arpo.types import Message, Task


def test_every_fork_divides() -> None:
    """prompt -> a -> result -> b, c, d; b -> e, f; prompt -> g, a top-up."""
    task = Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, [1])

    def sample(parent):
        return tree.append(parent, NodeKind.COMPLETION, [2, 3])

    a = sample(tree.root)
    result = tree.append(a, NodeKind.OBSERVATION, [4])
    b, c, d = (sample(result) for _ in range(3))
    e, f, g = sample(b), sample(b), sample(tree.root)
    shares = node_shares(tree)
    by_node = {n.id: shares[n.id] for n in (tree.root, a, result, b, c, d, e, f, g)}
    assert list(by_node.values()) == [2, 1, 1, 1 / 3, 1 / 3, 1 / 3, 1 / 6, 1 / 6, 1]
    tree.split(a, 1)
    assert [node_shares(tree)[i] for i in by_node] == [*by_node.values()], "where a completion is cut does not matter"
