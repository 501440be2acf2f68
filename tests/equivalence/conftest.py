"""Random trees for the equivalence tests."""

from random import Random

import pytest

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Reward, Task


def make_random_tree(seed: int, *, vocab_size: int = 97, max_depth: int = 3) -> RolloutTree:
    """A depth-first numbered tree of one to a dozen leaves with rewards, forks after observations and at the prompt."""
    random = Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [random.randrange(vocab_size) for _ in range(random.randint(low, high))]

    def complete(parent: Node, depth: int) -> None:
        drawn = ids(1, 6)
        logprobs = [-4 * random.random() for _ in drawn]
        node = tree.append(parent, NodeKind.COMPLETION, drawn, logprobs=logprobs, entropies=[1.0] * len(drawn))
        if depth < max_depth and random.random() < 0.7:
            seen = tree.append(node, NodeKind.OBSERVATION, ids(1, 7))
            for _ in range(random.choice([1, 1, 2, 3])):
                complete(seen, depth + 1)
        else:
            node.reward = Reward(value=random.choice([-1.0, 0.0, 0.5, 1.0]))

    task = Task(id=f"t{seed}", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, ids(2, 8))
    for _ in range(random.randint(1, 3)):
        complete(tree.root, 0)
    return tree


@pytest.fixture(scope="session")
def random_tree():
    """The function that makes a random tree from a seed."""
    return make_random_tree
