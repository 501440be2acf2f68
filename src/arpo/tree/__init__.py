"""The rollout tree: nodes, forks, trajectories as views, JSONL in and out. Pure data, no torch."""

from arpo.tree.credit import NodeCredit
from arpo.tree.node import Node, NodeKind
from arpo.tree.serialize import append_tree, drop_torn_tree, read_trees, tree_from_dict, tree_to_dict, write_trees
from arpo.tree.tree import RolloutTree, Trajectory

__all__ = [
    "Node",
    "NodeCredit",
    "NodeKind",
    "RolloutTree",
    "Trajectory",
    "append_tree",
    "drop_torn_tree",
    "read_trees",
    "tree_from_dict",
    "tree_to_dict",
    "write_trees",
]
