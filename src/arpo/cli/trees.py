"""Rollout trees and their statistics on a terminal."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from arpo.cli.output import make_table
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.branching import Fate
from arpo.tree.branching_statistics import UNSURE

_EXCERPT = 90
_FATES: Mapping[Fate, str] = {
    "branched": "branched", "declined": "declined", "no_budget": "no leaf left", "topup": "top-up", "not_asked": "not asked",
}  # fmt: skip
"""Heading of each fate of a tool result."""
_MAX_TOOLS = 8
"""Tools with a row of their own, those with most results first; a model may name any number of tools."""
_DISTANCES = (0, 1, 2, 3, 5, 10, 20, 40)


def tree_picture(tree: RolloutTree) -> Tree:
    """A tree as indented lines: text and entropy of each node, and where and why it branched."""
    references = " or ".join(tree.task.references)
    picture = Tree(Text(f"{tree.task.question}  [{tree.task.id}, reference: {references}]", style="bold"))
    pictures = {0: picture}
    for node in tree.depth_first():
        if node.parent is not None:
            pictures[node.id] = pictures[node.parent].add(_line(node))
    return picture


def rollout_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """The metrics of `arpo rollout` as tables; empty tables are left out."""
    yield _overview(summary)
    yield _cost(summary)
    if summary["branch_rate_by_turn"]:
        yield _branches_by_turn(summary)
    if summary["branching"]["results_by_tool"]:
        yield _tool_results(summary["branching"])
    if summary["branching"]["forks"]["reward_gain"] is not None:
        yield _forks(summary["branching"])
    if summary["entropy_by_distance"]["before_tools"]["mean"]:
        yield _entropy_by_distance(summary)


def _line(node: Node) -> Text:
    text = " ".join(node.text.split())
    excerpt = text if len(text) <= _EXCERPT else text[: _EXCERPT // 2] + " … " + text[-_EXCERPT // 2 :]
    line = Text()
    if node.is_branch:
        line.append("◆ ", style="magenta")
    line.append(excerpt, style="dim" if node.kind is NodeKind.OBSERVATION else "")
    return line.append(f"  {', '.join(_facts(node))}", style="cyan")


def _facts(node: Node) -> list[str]:
    facts = [f"{len(node.token_ids)} tok"]
    if node.entropies:
        facts.append(f"H {fmean(node.entropies):.2f}")
    facts += [result.status for result in node.results if result.status != "success"]
    if node.entropy_delta is not None:
        facts.append(f"ΔH {node.entropy_delta:+.3f}")
    if node.branch_score is not None:
        facts.append(f"score {node.branch_score:.3f}")
    if node.reward is not None:
        facts.append(f"reward {node.reward.value:.2f}")
    return facts


def _overview(summary: Mapping[str, Any]) -> Table:
    table = make_table("", ">", title="Trees", show_header=False)
    rows = {
        "trees": "num_trees", "trees lost": "dropped_trees", "trajectories per tree": "leaves_per_group",
        "from the prompt, planned": "num_initial", "from the prompt, topped up": "num_topups", "branches": "num_branches",
        "branches per opportunity": "branch_rate", "entropy after a tool result, nats": "entropy_after_tool",
        "entropy elsewhere, nats": "entropy_elsewhere", "different answers per tree": "distinct_answers_per_task",
        "different sequences of calls per tree": "distinct_call_sequences_per_task",
        "two answers of a tree agree": "answer_agreement", "leaves without an answer": "no_answer_rate",
        "mean reward": "reward_mean", "right answers": "accuracy", "exact matches": "exact_match",
    }  # fmt: skip
    for label, key in rows.items():
        if key in summary:
            table.add_row(label, _number(summary[key]))
    branching = summary["branching"]
    table.add_row("entropy at the start, window, nats", _number(branching["initial_entropy"]))
    table.add_row(f"trajectories above {UNSURE} nats there", _share(branching["unsure_start_rate"]))
    leaves = ", ".join(f"{n} × {leaves}" for leaves, n in summary["leaves_per_initial_trajectory"].items())
    table.add_row("leaves per trajectory from the prompt", leaves)
    return table


def _cost(summary: Mapping[str, Any]) -> Table:
    """The cost of the trees, and that of as many independent trajectories."""
    table = make_table("", ">the trees", ">independent", ">saved", title="Cost")
    for label, key, whole in (
        ("tool calls issued", "tool_calls_issued", "tool_calls_independent"),
        ("tokens sampled", "tokens_sampled", "tokens_sampled_independent"),
        ("tokens, prompts and results included", "tokens_unique", "tokens_trajectory"),
    ):
        saved = f"{1 - summary[key] / summary[whole]:.0%}" if summary[whole] else "–"
        table.add_row(label, f"{summary[key]:,}", f"{summary[whole]:,}", saved)
    for fate in ("executed", "cached", "refused", "without_result"):
        table.add_row(f"  calls {fate.replace('_', ' ')}", f"{summary[f'tool_calls_{fate}']:,}", "", "")
    return table


def _branches_by_turn(summary: Mapping[str, Any]) -> Table:
    table = make_table("turn", ">opportunities", ">branches", ">rate", title="Branches by turn")
    for row in summary["branch_rate_by_turn"]:
        table.add_row(*(_number(row[key]) for key in ("turn", "num_opportunities", "num_branches", "branch_rate")))
    return table


def _tool_results(branching: Mapping[str, Any]) -> Table:
    """Entropy of the window after the results of each tool, and what became of them."""
    fates = {fate: name for fate, name in _FATES.items() if branching["results"]["fates"][fate]}
    headings = (">results", ">H after, nats", ">H rose", *(f">{name}" for name in fates.values()))
    table = make_table("tool", *headings, title="Tool results, and what became of them")
    for row in (*branching["results_by_tool"][:_MAX_TOOLS], {"tool": "all", **branching["results"]}):
        counts = (f"{row['fates'][fate]:,}" for fate in fates)
        table.add_row(
            Text(row["tool"]), f"{row['num_results']:,}", _number(row["entropy_after"]), _share(row["rise_rate"]), *counts
        )
    return table


def _forks(branching: Mapping[str, Any]) -> Table:
    """Mean reward below originals and branches, with the 95 % interval of the difference, and forks with mixed outcomes."""
    table = make_table("", ">forks", ">original", ">branches", ">difference", ">mixed", title="Forks: mean reward below them")
    rows = [(f"turn {row['turn']}", row) for row in branching["forks_by_turn"]]
    rows += [
        (f"after {row['tool']}" if row["tool"] else "in a completion", row) for row in branching["forks_by_tool"][:_MAX_TOOLS]
    ]
    for label, row in (*rows, ("all", branching["forks"])):
        gain, error = row["reward_gain"], row["reward_gain_error"]
        difference = "–" if gain is None else f"{gain:+.3f}" + ("" if error is None else f" ± {1.96 * error:.3f}")
        rewards = (_number(row["original_reward"]), _number(row["branch_reward"]))
        table.add_row(Text(label), f"{row['num_forks']:,}", *rewards, difference, _share(row["mixed_rate"]))
    return table


def _entropy_by_distance(summary: Mapping[str, Any]) -> Table:
    before, after = (summary["entropy_by_distance"][name]["mean"] for name in ("before_tools", "after_tool"))
    distances = [d for d in _DISTANCES if d < max(len(before), len(after))]
    table = make_table("tokens since", *(f">{d}" for d in distances), title="Entropy by distance, nats")
    for label, curve in (("the prompt, no tool result yet", before), ("the last tool result", after)):
        table.add_row(label, *(f"{curve[d]:.2f}" if d < len(curve) else "" for d in distances))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
