"""Random trees, which fork at prompts, at results and inside completions, at any depth."""

from random import Random

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Reward, Task


def random_tree(seed: int) -> RolloutTree:
    """One to three initial trajectories, and as many forks again at any sampled token or result."""
    random = Random(seed)
    task = Task(id=f"t{seed}", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, [random.randrange(90) for _ in range(random.randint(1, 4))])

    def sample(parent: Node) -> Node:
        ids = [random.randrange(90) for _ in range(random.randint(1, 6))]
        numbers = {"logprobs": [-random.random() for _ in ids], "entropies": [random.random() for _ in ids]}
        return tree.append(parent, NodeKind.COMPLETION, ids, **numbers)

    def go_on(node: Node) -> None:
        for _ in range(random.randint(0, 2)):
            node = tree.append(sample(node), NodeKind.OBSERVATION, [random.randrange(90) for _ in range(random.randint(1, 3))])
        if node.is_sampled or random.random() < 0.8:
            sample(node)

    for _ in range(random.randint(1, 3)):
        go_on(sample(tree.root))
    for _ in range(random.randint(1, 5)):
        node = random.choice(tree.nodes)
        if node.is_sampled and len(node.token_ids) > 1:
            node = tree.split(node, random.randint(1, len(node.token_ids) - 1))
        if tree.children[node.id]:
            go_on(sample(node))
    for leaf in tree.leaves():
        leaf.reward = Reward(value=random.choice([-1.0, 0.0, 0.3, 1.0]))
    return tree
