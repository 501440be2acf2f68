"""The rollout tree of one task.

A tree is a list of nodes; each stores only the tokens it adds. The concatenated `token_ids` from the root to a node are exactly
the ids the model saw there. The root is the prompt; its children are the initial trajectories and top-ups, each followed by
the branches at the prompt that belong to it; a branch is a later child of a node that already had one. A trajectory is a
view: the path from the root to a leaf.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from arpo.tree.credit import NodeCredit
from arpo.tree.node import Node, NodeKind
from arpo.types import Parse, Task, ToolCall, ToolResult


@dataclass(slots=True)
class RolloutTree:
    """All trajectories of one task in one step.

    Example: prompt [5 tokens] -> completion a [3] -> observation [4] -> completion b [2] and, forked, completion c [6]:
    5 nodes, 2 leaves, 20 unique tokens (5+3+4+2+6), 32 tokens over both trajectories (14 + 18): see
    `num_unique_tokens` and `num_trajectory_tokens`.
    """

    task: Task
    nodes: list[Node] = field(default_factory=list[Node])
    children: list[list[int]] = field(default_factory=list[list[int]])
    """Ids of each node's children in order of creation; derived, not stored on disk."""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """How the tree was sampled, JSON-serialisable: `rule`, `num_initial`, `temperature`, `entropy_estimator`, `entropy_window`
    and so on; empty when unknown."""
    credit: NodeCredit | None = None
    """Credit by node id; None before credit is assigned, and for a tree that was not trained on."""
    seconds: float | None = None
    """Wall time of sampling, waits included; None when not measured."""

    @classmethod
    def from_prompt(cls, task: Task, token_ids: list[int], text: str = "") -> "RolloutTree":
        """A tree that holds the prompt alone."""
        tree = cls(task)
        tree._add(Node(id=0, parent=None, kind=NodeKind.PROMPT, token_ids=token_ids, text=text))
        return tree

    @property
    def root(self) -> Node:
        """The prompt."""
        return self.nodes[0]

    def append(self, parent: Node, kind: NodeKind, token_ids: list[int], **fields: object) -> Node:
        """Add a node below `parent` and return it; a second child makes `parent` a fork.

        Raises:
            ValueError: the prompt can only be the root, and a parent must be a node of this tree.
        """
        if kind is NodeKind.PROMPT or parent.id >= len(self.nodes) or self.nodes[parent.id] is not parent:
            raise ValueError(f"append: parent {parent.id} is not in this tree, or kind {kind} is not a continuation")
        turn = parent.turn + (kind is NodeKind.OBSERVATION)
        return self._add(Node(id=len(self.nodes), parent=parent.id, kind=kind, token_ids=token_ids, turn=turn, **fields))  # pyright: ignore[reportArgumentType]

    def split(self, node: Node, offset: int) -> Node:
        """Cut a completion after `offset` tokens so that a fork can start there; return the first part.

        The first part keeps the node's id and parent; the rest becomes its only child and takes over its children, parse, stop
        reason, step reward and step metrics. Concatenated token ids, log-probs and entropies of every path do not change.

        Raises:
            ValueError: not a completion, or `offset` not strictly inside it.
        """
        if not node.is_sampled or not 0 < offset < len(node.token_ids):
            raise ValueError(f"split: node {node.id} ({node.kind}, {len(node.token_ids)} tokens) cannot be cut at {offset}")
        orphans = self.children[node.id]
        self.children[node.id] = []
        rest = self._add(
            replace(
                node, id=len(self.nodes), parent=node.id, token_ids=node.token_ids[offset:], text="", is_branch=False,
                logprobs=(node.logprobs or [])[offset:], entropies=(node.entropies or [])[offset:],
            )
        )  # fmt: skip
        for child in orphans:
            self.nodes[child].parent = rest.id
        self.children[rest.id] = orphans
        node.token_ids = node.token_ids[:offset]
        node.logprobs = (node.logprobs or [])[:offset]
        node.entropies = (node.entropies or [])[:offset]
        node.stop_reason = node.parse = node.step_reward = None
        node.step_metrics, node.is_done = {}, False
        return node

    def path(self, node: Node) -> list[Node]:
        """Nodes from the root to `node`, both included."""
        nodes = [node]
        while nodes[-1].parent is not None:
            nodes.append(self.nodes[nodes[-1].parent])
        return nodes[::-1]

    def leaves(self) -> list[Node]:
        """Nodes without children, in depth-first order; a prompt alone is no leaf."""
        return [n for n in self.depth_first() if not self.children[n.id] and n.parent is not None]

    def trajectory(self, leaf: Node) -> "Trajectory":
        """The root-to-leaf view that ends at `leaf`."""
        return Trajectory(self, self.path(leaf))

    def trajectories(self) -> list["Trajectory"]:
        """One view per leaf, in depth-first order."""
        return [self.trajectory(leaf) for leaf in self.leaves()]

    def depth_first(self) -> Iterator[Node]:
        """Every node, each before its children, children in order of creation."""
        stack = [0]
        while stack:
            index = stack.pop()
            yield self.nodes[index]
            stack.extend(reversed(self.children[index]))

    def renumbered(self, order: Callable[[Node], tuple[int, ...]]) -> "RolloutTree":
        """A copy numbered depth-first with siblings sorted by `order`, so independent of the order in which paths finished."""
        tree = RolloutTree(self.task, settings=self.settings, seconds=self.seconds)
        stack: list[tuple[Node, int | None]] = [(self.root, None)]
        ids: list[int] = []
        while stack:
            node, parent = stack.pop()
            ids.append(node.id)
            copy = tree._add(replace(node, id=len(tree.nodes), parent=parent))
            children = sorted((self.nodes[c] for c in self.children[node.id]), key=order)
            stack.extend((child, copy.id) for child in reversed(children))
        tree.credit = self.credit.of_nodes(ids) if self.credit is not None else None
        return tree

    @property
    def num_unique_tokens(self) -> int:
        """Tokens stored: each shared token counts once."""
        return sum(len(n.token_ids) for n in self.nodes)

    @property
    def num_trajectory_tokens(self) -> int:
        """Tokens over all trajectories: a token shared by d leaves counts d times."""
        return sum(len(t.token_ids) for t in self.trajectories())

    def _repr_html_(self) -> str:
        """The tree as notebooks show it, by `arpo.viewer.notebook`, which is named here and not imported: it lies above."""
        return import_module("arpo.viewer.notebook").tree_html(self)

    def _add(self, node: Node) -> Node:
        self.nodes.append(node)
        self.children.append([])
        if node.parent is not None:
            self.children[node.parent].append(node.id)
        return node


@dataclass(slots=True, frozen=True)
class Trajectory:
    """A root-to-leaf view of a tree, without data of its own."""

    tree: RolloutTree
    nodes: list[Node]
    """From the prompt to the leaf."""

    @property
    def task(self) -> Task:
        """The tree's task."""
        return self.tree.task

    @property
    def leaf(self) -> Node:
        """The last node."""
        return self.nodes[-1]

    @property
    def token_ids(self) -> list[int]:
        """[T] every id from the first prompt token to the last token of the leaf."""
        return [t for n in self.nodes for t in n.token_ids]

    @property
    def loss_mask(self) -> list[bool]:
        """[T] True on sampled tokens, derived from the node kinds."""
        return [n.is_sampled for n in self.nodes for _ in n.token_ids]

    @property
    def completions(self) -> list[Node]:
        """The sampled nodes in order."""
        return [n for n in self.nodes if n.is_sampled]

    @property
    def final_parse(self) -> Parse | None:
        """The parse of the last completion; None where a limit ended the trajectory at an observation."""
        if self.leaf.is_sampled:
            return self.leaf.parse
        return self.completions[-1].parse if self.leaf.is_done else None

    @property
    def tool_results(self) -> list[ToolResult]:
        """The results of all calls, in order."""
        return [result for node in self.observations for result in node.results]

    @property
    def tool_calls(self) -> list[tuple[ToolCall, ToolResult]]:
        """Each call that ran, with its result, in order."""
        pairs = zip(self.nodes, self.nodes[1:], strict=False)
        return [pair for node, after in pairs for pair in zip(node.calls, after.results, strict=False)]

    @property
    def observations(self) -> list[Node]:
        """The observations, in order."""
        return [n for n in self.nodes if n.kind is NodeKind.OBSERVATION]

    @property
    def num_sampled_tokens(self) -> int:
        """Tokens that may train."""
        return sum(len(n.token_ids) for n in self.completions)

    @property
    def response_text(self) -> str:
        """The text after the prompt, for people and graders' reports."""
        return "".join(n.text for n in self.nodes[1:])
