"""One fork of a tree in words: the question, the result, and what each path did and earned."""

from collections.abc import Sequence
from dataclasses import dataclass

from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.branching import ForkRecord, ResultRecord, fork_records, result_records
from arpo.viewer.run import ShownTree

MAX_PATHS = 8
MAX_TEXT = 280


@dataclass(slots=True, frozen=True, kw_only=True)
class PathStory:
    """One trajectory from the fork on."""

    name: str
    """`original` or `branch 2`."""
    steps: list[tuple[str, str]]
    """(tool, its arguments) of each call, and (`answer`, its text) at the end."""
    reward: str
    is_right: bool | None
    """None when nobody graded it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class ForkStory:
    """What a reader has to know of one fork."""

    label: str
    question: str
    references: str
    call: str
    """The last tool call before the fork; empty when there is none."""
    result: str
    """Its result; empty when there is none."""
    begun: str
    """The completion as far as the fork; empty for a fork after a result."""
    measure: str
    """What was measured there, and what the rule did."""
    paths: list[PathStory]
    num_more: int
    """Trajectories that are not listed."""


def fork_story(shown: Sequence[ShownTree]) -> ForkStory | None:
    """The fork that shows most: of mixed outcome, after a result, and late in the run; None when no tree has a fork."""
    found = [(s, fork) for s in shown for fork in fork_records(s.tree)]
    if not found:
        return None
    # max returns the first of equals: the latest tree comes first
    shown_tree, fork = max(reversed(found), key=lambda pair: (bool(pair[1].is_mixed), pair[1].tool is not None))
    tree, node = shown_tree.tree, shown_tree.tree.nodes[fork.node]
    paths = [path for child in tree.children[node.id] for path in _paths(tree, node, tree.nodes[child])]
    seen = next((n for n in reversed(tree.path(node)) if n.kind is NodeKind.OBSERVATION), None)
    result = next((r for r in result_records(tree) if r.node == node.id), None)
    return ForkStory(
        label=shown_tree.label,
        question=tree.task.question,
        references=" or ".join(tree.task.references),
        call=_call(tree, seen),
        result="" if seen is None else _excerpt(" ".join(r.content for r in seen.results) or seen.text),
        begun=_excerpt(node.text) if node.is_sampled else "",
        measure=_measure(tree, node, fork, result),
        paths=paths[:MAX_PATHS],
        num_more=max(0, len(paths) - MAX_PATHS),
    )


def _call(tree: RolloutTree, seen: Node | None) -> str:
    """The calls that an observation answers."""
    calls = tree.nodes[seen.parent].calls if seen is not None and seen.parent is not None else ()
    return _excerpt(", ".join(" ".join((call.name, *map(str, call.arguments.values()))) for call in calls))


def _measure(tree: RolloutTree, node: Node, fork: ForkRecord, result: ResultRecord | None) -> str:
    paths = "1 new path" if fork.num_branches == 1 else f"{fork.num_branches} new paths"
    if result is None:
        following = tree.nodes[tree.children[node.id][0]].entropies or [None]
        entropy = "" if following[0] is None else f" of entropy {following[0]:.2f} nats"
        return f"Before a token{entropy}, {paths} began."
    if result.entropy_after is None or result.initial_entropy is None or result.entropy_delta is None:
        return f"{paths} began here."
    window = tree.settings.get("entropy_window")
    verb = "rose" if result.is_rise else "did not rise"
    return (
        f"The entropy {verb}: {result.entropy_after:.2f} nats over the next {window} tokens, {result.initial_entropy:.2f} at "
        f"the start of the path (ΔH {result.entropy_delta:+.3f}). The rule asked for a branch, and {paths} began."
    )


def _paths(tree: RolloutTree, fork: Node, child: Node) -> list[PathStory]:
    """The trajectories that go on through one child of the fork."""
    branches = [c for c in tree.children[fork.id] if tree.nodes[c].is_branch]
    name = "original"
    if child.is_branch:
        name = "branch" if len(branches) == 1 else f"branch {branches.index(child.id) + 1}"
    stories: list[PathStory] = []
    for leaf in _leaves_below(tree, child):
        path = tree.path(leaf)
        after = path[path.index(child) :]
        steps = [(call.name, _excerpt(" ".join(map(str, call.arguments.values())))) for n in after for call in n.calls]
        answer = next((n.parse.answer for n in reversed(after) if n.parse and n.parse.answer is not None), None)
        steps.append(("no answer", "") if answer is None else ("answer", _excerpt(answer)))
        reward = "" if leaf.reward is None else f"{leaf.reward.value:.3g}"
        stories.append(PathStory(name=name, steps=steps, reward=reward, is_right=leaf.is_correct))
    return stories


def _leaves_below(tree: RolloutTree, node: Node) -> list[Node]:
    return [leaf for leaf in tree.leaves() if any(n is node for n in tree.path(leaf))]


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"
