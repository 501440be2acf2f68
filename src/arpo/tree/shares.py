"""How often each node counts where a tree's trajectories are to count as independent ones would."""

from arpo.tree.tree import RolloutTree


def node_shares(tree: RolloutTree) -> list[float]:
    """[n] share of each node: 1 for every child of the prompt, divided evenly among the children at every later fork.

    A fork draws a prefix's continuation several times; its children together count as the one continuation an independent
    trajectory would have. Where a rule forks by what it sees of the prefix alone, sums over nodes with these weights have the
    expectation of as many independent trajectories as the prompt has children: E sum_n share_n f(n) = N E sum_(n on a path)
    f(n). A plain sum over distinct nodes counts tokens behind forks too often, and one over leaves those before forks. The
    shares of the leaves below a node add up to its own; they are the leaf weights `inverse_branching`. The prompt has the
    number of its children.

    Example: two initial trajectories, the first of which forks in two behind a result: 1 for its first completion and the
    result, 1/2 for either continuation, 1 for every node of the second.
    """
    shares = [float(len(tree.children[0]))] * len(tree.nodes)
    for node in tree.depth_first():
        if node.parent is not None:
            shares[node.id] = shares[node.parent] / len(tree.children[node.parent])
    return shares
