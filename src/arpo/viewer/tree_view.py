"""The layout of a rollout tree from left to right: the original path is straight, branches leave it downwards."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.viewer.run import ShownTree
from arpo.viewer.tokens import Decoder, token_pieces

MAX_SHOWN_TOKENS = 1500
_ROW, _GAP, _MARGIN = 82, 28, 4
_PROMPT_WIDTH, _OBSERVATION_WIDTH, _REWARD_WIDTH = 170, 74, 66
_COMPLETION_WIDTHS = 120, 196
"""The narrowest and the widest card of a completion."""
_PAGE_WIDTH = 1640
"""Width that a page of 1,300 pixels shows of a tree at the size to which it shrinks one."""
_TAG = re.compile(r"</?\w+>")
_PROMPT_HEIGHT = 152
_CENTRE = 34  # from a row's top to the height at which connectors meet the cards


@dataclass(slots=True, frozen=True, kw_only=True)
class Card:
    """One node as the template draws it."""

    id: int
    kind: str
    x: int
    y: int
    width: int
    title: str
    chip: str
    """Of a completion: a tool's name, `answer` or `no answer`."""
    excerpt: str
    facts: list[str]
    tone: str
    """`positive`, `negative` or empty by the sign of the advantage; `failed`: a failed tool call."""
    strength: float
    """Advantage over the tree's largest, 0 to 1."""
    is_branch: bool
    fork: list[str]
    """On a node where branches start: the rule's measurements."""
    reward: str
    """On a leaf: its reward."""
    is_right: bool | None
    """On a leaf: whether its answer was right; None when nobody graded it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class TreeView:
    """A drawn tree."""

    label: str
    question: str
    references: str
    facts: list[str]
    width: int
    height: int
    wires: list[tuple[str, bool]]
    """(SVG path, belongs to a branch) of each parent-child connection."""
    cards: list[Card]
    details: dict[int, dict[str, Any]]
    """Node id -> details that a click shows."""
    max_entropy: float
    """Entropy at full heat, nats."""
    first: int | None
    """The node to show at first: the first branch, or the first completion."""


def tree_view(shown: ShownTree, decode: Decoder | None) -> TreeView:
    """Lay out a tree; without a decoder the details show whole texts instead of tokens with their entropy."""
    tree = shown.tree
    widths = _widths(tree)
    corners = _corners(tree, widths)
    leaf_counts = _leaf_counts(tree)
    largest = max(map(abs, tree.credit.advantages), default=0.0) if tree.credit is not None else 0.0
    cards = [_card(tree, n, corners[n.id], widths[n.kind], leaf_counts[n.id], largest) for n in tree.depth_first()]
    wires = [(_wire(tree, n, corners, widths), n.is_branch) for n in tree.nodes[1:]]
    completions = [n for n in tree.depth_first() if n.is_sampled]
    first = next((n.id for n in completions if n.is_branch), completions[0].id if completions else None)
    return TreeView(
        label=shown.label,
        question=_question(tree),
        references=" or ".join(tree.task.references),
        facts=_tree_facts(tree),
        width=max(x + widths[n.kind] for n, (x, _) in zip(tree.nodes, corners, strict=True)) + _REWARD_WIDTH,
        height=max(max(y for _, y in corners) + _ROW, _PROMPT_HEIGHT + 2 * _MARGIN),
        wires=sorted(wires, key=lambda wire: wire[1]),
        cards=cards,
        details={n.id: _details(tree, n, leaf_counts[n.id], decode) for n in tree.nodes},
        max_entropy=max((h for n in tree.nodes for h in n.entropies or []), default=0.0),
        first=first,
    )


def _widths(tree: RolloutTree) -> dict[NodeKind, int]:
    """Width of a card by kind: completions share what the longest path leaves of the page, within their bounds."""
    longest = max((t.nodes for t in tree.trajectories()), key=len, default=[tree.root])
    kinds = [node.kind for node in longest]
    num_completions, num_observations = (kinds.count(kind) for kind in (NodeKind.COMPLETION, NodeKind.OBSERVATION))
    fixed = 2 * _MARGIN + _PROMPT_WIDTH + _REWARD_WIDTH + num_observations * _OBSERVATION_WIDTH + (len(kinds) - 1) * _GAP
    narrowest, widest = _COMPLETION_WIDTHS
    fitting = (_PAGE_WIDTH - fixed) // max(1, num_completions)
    return {
        NodeKind.PROMPT: _PROMPT_WIDTH,
        NodeKind.COMPLETION: min(widest, max(narrowest, fitting)),
        NodeKind.OBSERVATION: _OBSERVATION_WIDTH,
    }


def _corners(tree: RolloutTree, widths: Mapping[NodeKind, int]) -> list[tuple[int, int]]:
    """(x, y) of every node's card: a first child stays in its parent's row, each further child opens a row."""
    corners = [(0, 0)] * len(tree.nodes)
    row = 0
    for node in tree.depth_first():
        if node.parent is None:
            corners[node.id] = (_MARGIN, _MARGIN)
            continue
        parent_x, parent_y = corners[node.parent]
        is_first = tree.children[node.parent][0] == node.id
        row += not is_first
        x = parent_x + widths[tree.nodes[node.parent].kind] + _GAP
        corners[node.id] = (x, parent_y if is_first else _MARGIN + row * _ROW)
    return corners


def _wire(tree: RolloutTree, node: Node, corners: list[tuple[int, int]], widths: Mapping[NodeKind, int]) -> str:
    parent = tree.nodes[node.parent or 0]
    x0, y0 = corners[parent.id][0] + widths[parent.kind], corners[parent.id][1] + _CENTRE
    x1, y1 = corners[node.id][0], corners[node.id][1] + _CENTRE
    if y0 == y1:
        return f"M{x0} {y0}H{x1}"
    turn = x0 + _GAP // 2
    return f"M{x0} {y0}H{turn - 10}Q{turn} {y0} {turn} {y0 + 10}V{y1 - 10}Q{turn} {y1} {turn + 10} {y1}H{x1}"


def _leaf_counts(tree: RolloutTree) -> list[int]:
    counts = [0] * len(tree.nodes)
    for leaf in tree.leaves():
        for node in tree.path(leaf):
            counts[node.id] += 1
    return counts


def _card(tree: RolloutTree, node: Node, corner: tuple[int, int], width: int, leaves: int, largest: float) -> Card:
    chip, title = _headline(tree, node)
    advantage = _advantage(tree, node)
    is_leaf = node.parent is not None and not tree.children[node.id]
    return Card(
        id=node.id,
        kind=node.kind.value,
        x=corner[0],
        y=corner[1],
        width=width,
        title=title,
        chip=chip,
        excerpt=" ".join(_TAG.sub(" ", node.text).split())[:240],
        facts=_card_facts(node, leaves, advantage),
        tone=_tone(node, advantage),
        strength=round(abs(advantage or 0.0) / largest, 3) if largest else 0.0,
        is_branch=node.is_branch,
        fork=_fork_facts(tree, node),
        reward="" if not is_leaf or node.reward is None else f"{node.reward.value:.3g}",
        is_right=node.is_correct if is_leaf else None,
    )


def _headline(tree: RolloutTree, node: Node) -> tuple[str, str]:
    if node.kind is NodeKind.PROMPT:
        return "prompt", _question(tree)
    if node.kind is NodeKind.OBSERVATION:
        if node.results:
            return node.results[0].status, "result"
        return node.messages[0].role if node.messages else "", "message"
    if node.calls:
        call, *further = node.calls
        more = f" and {len(further)} more" if further else ""
        return call.name, " ".join(str(v) for v in call.arguments.values()) + more
    if node.parse and node.parse.answer is not None:
        return "answer", node.parse.answer
    return ("", "") if tree.children[node.id] else ("no answer", "")


def _question(tree: RolloutTree) -> str:
    return next((m.content for m in reversed(tree.task.messages) if m.role == "user"), "")


def _advantage(tree: RolloutTree, node: Node) -> float | None:
    return tree.credit.advantages[node.id] if tree.credit is not None else None


def _card_facts(node: Node, leaves: int, advantage: float | None) -> list[str]:
    facts = [f"{len(node.token_ids):,} tok"]
    if node.entropies:
        facts.append(f"H {sum(node.entropies) / len(node.entropies):.2f}")
    if node.is_sampled and leaves > 1:
        facts.append(f"×{leaves}")
    if advantage is not None:
        facts.append(f"A {advantage:+.2f}")
    return facts


def _fork_facts(tree: RolloutTree, node: Node) -> list[str]:
    branches = sum(tree.nodes[c].is_branch for c in tree.children[node.id])
    if not branches:
        return []
    facts = [_branches(branches)]
    if node.entropy_delta is not None:
        facts.append(f"ΔH {node.entropy_delta:+.2f}")
    if node.branch_score is not None:
        facts.append(f"score {node.branch_score:.2f}")
    return facts


def _branches(count: int) -> str:
    return f"{count} branch" + "es" * (count != 1)


def _tone(node: Node, advantage: float | None) -> str:
    if any(result.status != "success" for result in node.results):
        return "failed"
    if not advantage:
        return ""
    return "positive" if advantage > 0 else "negative"


def _tree_facts(tree: RolloutTree) -> list[str]:
    leaves = tree.leaves()
    branches = sum(n.is_branch for n in tree.nodes)
    rewards = [leaf.reward.value for leaf in leaves if leaf.reward is not None]
    unique, total = tree.num_unique_tokens, tree.num_trajectory_tokens
    facts = [f"{len(leaves)} trajector" + ("y" if len(leaves) == 1 else "ies"), _branches(branches)]
    if rewards:
        lowest, highest = (f"{reward:.3g}" for reward in (min(rewards), max(rewards)))
        facts.append(f"reward {lowest}" if lowest == highest else f"rewards {lowest} to {highest}")
    return [*facts, f"{unique:,} tokens stored for {total:,} in trajectories ({total / max(unique, 1):.1f}×)"]


def _details(tree: RolloutTree, node: Node, leaves: int, decode: Decoder | None) -> dict[str, Any]:
    details: dict[str, Any] = {"kind": node.kind.value, "facts": _detail_facts(tree, node, leaves), "text": node.text}
    if node.results or node.messages:
        details["text"] = "\n\n".join(said.content for said in (*node.results, *node.messages))
    if node.is_sampled and node.entropies and decode:
        shown = slice(0, MAX_SHOWN_TOKENS)
        details["pieces"] = token_pieces(node.token_ids[shown], decode)
        details["entropies"] = [round(h, 3) for h in node.entropies[shown]]
        details["probabilities"] = [float(f"{math.exp(p):.3g}") for p in (node.logprobs or [])[shown]]
        if len(node.token_ids) > MAX_SHOWN_TOKENS:
            details["facts"].append(f"first {MAX_SHOWN_TOKENS:,} tokens shown")
    return details


def _detail_facts(tree: RolloutTree, node: Node, leaves: int) -> list[str]:
    facts = _card_facts(node, leaves, _advantage(tree, node))
    if tree.credit is not None and node.is_sampled:
        facts.append(f"weight {tree.credit.weights[node.id]:.3g}")
    if node.is_sampled:
        facts.append(f"policy version {node.policy_version}")
    if node.stop_reason:
        facts.append(f"stopped by {node.stop_reason.value.replace('_', ' ')}")
    if node.parse and node.parse.faults:
        facts.append("faults: " + ", ".join(node.parse.faults))
    for result in node.results:
        facts += [result.status, f"{result.seconds:.2f} s"] + ["from the cache"] * result.cached + ["cut"] * result.truncated
    if node.step_reward is not None:
        facts.append(f"step reward {node.step_reward:.3g}")
    if node.reward is not None:
        parts = ", ".join(f"{k} {v:.3g}" for k, v in node.reward.components.items())
        facts.append(f"reward {node.reward.value:.3g}" + (f" ({parts})" if parts else ""))
        facts += [node.reward.reason] * bool(node.reward.reason)
    return facts + [f"ungraded: {node.ungraded}"] * bool(node.ungraded)
