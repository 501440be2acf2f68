"""The report's section on branching, from trees made by hand."""

from pathlib import Path

import pytest

from arpo.tree import Node, NodeKind, RolloutTree, write_trees
from arpo.tree.branching_statistics import measure_branching
from arpo.types import Message, Parse, Reward, Task, ToolCall, ToolResult
from arpo.viewer import write_report
from arpo.viewer.branching import branching_histogram, branching_sentences, branching_table, forks_table
from arpo.viewer.fork_story import fork_story
from arpo.viewer.run import RunRecord, read_run


def new_tree(name: str) -> RolloutTree:
    tree = RolloutTree.from_prompt(
        Task(id=name, messages=(Message(role="user", content=f"Who is {name}?"),), references=("Moor",), source="test"), [0]
    )
    tree.settings = {"entropy_window": 2, "num_initial": 1}
    return tree


def call(tree: RolloutTree, entropies: list[float], delta: float, requested: int | None) -> Node:
    parse = Parse(calls=(ToolCall(name="search", arguments={"query": "Ada Moor"}),))
    node = tree.append(tree.root, NodeKind.COMPLETION, [1] * len(entropies), entropies=entropies, parse=parse)
    results = (ToolResult(content="Page 1: Ada Moor"),)
    return tree.append(node, NodeKind.OBSERVATION, [2], results=results, entropy_delta=delta, branches_requested=requested)


def answer(tree: RolloutTree, parent: Node, entropies: list[float], text: str, **fields) -> Node:
    node = tree.append(
        parent, NodeKind.COMPLETION, [1] * len(entropies), entropies=entropies, parse=Parse(answer=text), text=text, **fields
    )
    node.reward = Reward(value=float(text == "Moor"), is_correct=text == "Moor")
    return node


def branched(name: str, *, original: str = "Tolva", branch: str = "Moor") -> RolloutTree:
    """The result raises the entropy from 0.1 to 0.5 nats, and the path forks."""
    tree = new_tree(name)
    found = call(tree, [0.1, 0.1], 0.4, 1)
    answer(tree, found, [0.6, 0.4], original)
    answer(tree, found, [0.2], branch, is_branch=True)
    return tree


def unbranched(name: str, delta: float, requested: int | None) -> RolloutTree:
    tree = new_tree(name)
    answer(tree, call(tree, [0.3, 0.3], delta, requested), [0.2], "Moor")
    return tree


def record_of(tmp_path: Path, *steps: list[RolloutTree]) -> RunRecord:
    for step, trees in enumerate(steps, start=1):
        write_trees(tmp_path / "rollouts" / f"step_{step:06d}.jsonl.zst", trees)
    return read_run(tmp_path)


def rows(record: RunRecord) -> dict[str, list[str]]:
    return {row[0].strip(): row[1:] for row in branching_table(record)[1]}


def test_the_table_has_first_middle_last_and_all(tmp_path):
    steps = [
        [branched("a"), unbranched("b", -0.1, 0)],
        [unbranched("c", 0.2, 1)],
        [branched("d", branch="Tolva")],
        [branched("e", original="Moor")],
        [unbranched("f", 0.1, 1), branched("g")],
    ]
    record = record_of(tmp_path, *steps)
    assert branching_table(record)[0] == ["", "step 1", "step 3", "step 5", "all"]
    found = rows(record)
    assert found["Tool results"] == ["2", "1", "2", "7"]
    assert found["raised the entropy (ΔH > 0)"] == ["50%", "100%", "100%", "86%"]  # 6 of 7
    assert found["branched"] == ["100%", "100%", "50%", "67%"]  # of those that rose: 4 of 6
    assert found["no leaf left"] == ["–", "–", "50%", "33%"]
    assert "the rule declined" not in found  # it declined where the entropy fell
    # starts of 0.1 nats, four of them, and of 0.3 nats, three: (4 * 0.1 + 3 * 0.3) / 7 = 0.186
    assert found["Entropy at the start of a path, nats"] == ["0.2", "0.1", "0.2", "0.186"]
    # after results: 0.5 four times and 0.2 three times: 2.6 / 7 = 0.371
    assert found["Entropy after search, nats"] == ["0.35", "0.5", "0.35", "0.371"]
    # originals: 0, 0, 1, 0; branches: 1, 0, 1, 1
    assert (found["mean reward below originals"][-1], found["mean reward below branches"][-1]) == ("0.25", "0.75")
    assert found["with right and wrong leaves below"][-1] == "50%"  # a and g
    assert record.branching == measure_branching([tree for step in steps for tree in step])


def test_the_histogram_has_every_measured_result_by_its_fate(tmp_path):
    record = record_of(tmp_path, [branched("a"), unbranched("b", -0.1, 0), unbranched("c", 0.2, 1), unbranched("d", 0.3, 1)])
    assert record.entropy_deltas == {"branched": [0.4], "declined": [-0.1], "no_budget": [0.2, 0.3]}
    (chart,) = branching_histogram(record)
    assert [label for label, _, _ in chart.legend] == ["branched", "the rule declined", "no leaf left"]
    assert [sum(int(row[column]) for row in chart.table) for column in (1, 2, 3)] == [1, 1, 2]


def test_sentences_say_what_happened(tmp_path):
    record = record_of(tmp_path, [branched("a"), unbranched("b", -0.1, 0), unbranched("c", 0.2, 1), unbranched("d", 0.3, 1)])
    results, forks = branching_sentences(record)
    assert results == (
        "4 tool results were read; 75% of them raised the entropy (ΔH > 0). Of all results, 25% branched; "
        "at 25% the rule declined; at 50% no leaf was left for a branch."
    )
    assert forks.startswith("Paths forked at 1 place. Branches earned 1 in the mean, their originals 0 (difference +1.000).")


def test_without_branches_the_section_says_so(tmp_path):
    record = record_of(tmp_path, [unbranched("a", 0.2, None)], [unbranched("b", -0.2, None)])
    (sentence,) = branching_sentences(record)
    assert "50% of them raised the entropy" in sentence
    assert "No path could branch there" in sentence
    assert rows(record)["rule not asked"] == ["100%", "–", "100%"]
    assert rows(record)["Forks"] == ["0", "0", "0"]
    assert forks_table(record) == ([], [])
    assert fork_story(record.trees) is None
    page = write_report(tmp_path / "a.html", run=tmp_path).read_text()
    assert "What branching did" in page
    assert 'class="chart story"' not in page


def test_forks_inside_completions_are_told_as_such(tmp_path):
    tree = new_tree("a")
    whole = answer(tree, tree.root, [0.1, 0.9, 0.2], "Moor")
    answer(tree, tree.split(whole, 1), [0.5], "Tolva", is_branch=True)
    record = record_of(tmp_path, [tree])
    (sentence,) = branching_sentences(record)
    assert sentence.startswith(
        "Paths forked at 1 place, all of them inside completions. Branches earned 0 in the mean, their originals 1"
    )
    assert [row[0] for row in forks_table(record)[1]] == ["turn 0", "in a completion"]
    story = fork_story(record.trees)
    assert story is not None
    assert (story.call, story.result, story.measure) == ("", "", "Before a token of entropy 0.90 nats, 1 new path began.")


def test_the_story_of_a_fork(tmp_path):
    """The mixed fork of the latest step, in words."""
    record = record_of(tmp_path, [branched("a")], [branched("b")], [branched("c", branch="Tolva")])
    story = fork_story(record.trees)
    assert story is not None
    assert (story.label, story.question, story.references) == ("step 2", "Who is b?", "Moor")
    assert (story.call, story.result, story.begun) == ("search Ada Moor", "Page 1: Ada Moor", "")
    assert "0.50 nats over the next 2 tokens, 0.10 at the start of the path (ΔH +0.400)" in story.measure
    assert [(p.name, p.steps, p.reward, p.is_right) for p in story.paths] == [
        ("original", [("answer", "Tolva")], "0", False),
        ("branch", [("answer", "Moor")], "1", True),
    ]


def test_a_story_of_many_paths_says_how_many_it_leaves_out(tmp_path):
    tree = new_tree("a")
    found = call(tree, [0.1], 0.4, 11)
    for index in range(12):
        answer(tree, found, [0.6], "Moor" if index else "Tolva", is_branch=index > 0)
    story = fork_story(record_of(tmp_path, [tree]).trees)
    assert story is not None
    assert [path.name for path in story.paths] == ["original", *(f"branch {i}" for i in range(1, 8))]
    assert story.num_more == 4


def test_a_file_that_is_no_training_step_has_the_column_of_all(tmp_path):
    for part in (1, 2):
        write_trees(tmp_path / "rollouts" / f"part_{part:06d}.jsonl.zst", [branched(f"{part}")])
    assert branching_table(read_run(tmp_path))[0] == ["", "all"]


@pytest.mark.parametrize("trees", [[], [new_tree("a")]])
def test_nothing_read_is_nothing_shown(tmp_path, trees):
    record = record_of(tmp_path, trees)
    assert (branching_sentences(record), branching_table(record), branching_histogram(record)) == ([], ([], []), [])
