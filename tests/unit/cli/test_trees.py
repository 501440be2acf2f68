"""The tables of `arpo rollout`."""

from rich.console import Console

from arpo.cli.trees import rollout_tables
from arpo.tree import NodeKind, RolloutTree
from arpo.tree.branching_statistics import measure_branching
from arpo.tree.statistics import measure_trees
from arpo.types import Message, Parse, Reward, Task, ToolCall, ToolResult


def test_tool_names_that_a_model_made_up_are_printed_as_they_are():
    """Twelve tools, named like closing markup; the table has the eight with most results, the sums are over all."""
    tree = RolloutTree.from_prompt(Task(id="t", messages=(Message(role="user", content="?"),), references=(), source="x"), [0])
    tree.settings = {"entropy_window": 1}
    for number in range(12):
        for _ in range(number + 1):
            parse = Parse(calls=(ToolCall(name=f"[/{number}]", arguments={}),))
            call = tree.append(tree.root, NodeKind.COMPLETION, [1], entropies=[0.5], parse=parse)
            found = tree.append(call, NodeKind.OBSERVATION, [1], results=(ToolResult(content="x"),), entropy_delta=-0.1)
            for is_branch in (False, True):
                leaf = tree.append(found, NodeKind.COMPLETION, [1], entropies=[0.4], is_branch=is_branch)
                leaf.reward = Reward(value=float(is_branch))
    none = {"before_tools": {"mean": []}, "after_tool": {"mean": []}}
    summary = measure_trees([tree], window=1) | {"branching": measure_branching([tree]), "entropy_by_distance": none}
    console = Console(width=100)
    with console.capture() as captured:
        for table in rollout_tables(summary):
            console.print(table)
    text = captured.get()
    assert [number for number in range(12) if f"[/{number}]" in text] == list(range(4, 12))
    (whole,) = [line for line in text.splitlines() if "│ all" in line and "0.4" in line]
    assert whole.split()[3] == "78"  # 1 + 2 + ... + 12 results
