"""Trees survive the way to disk and back; a damaged file is named, with its line."""

import json
from pathlib import Path

import pytest
import zstandard

from arpo.errors import DataError
from arpo.tree import (
    NodeCredit,
    NodeKind,
    RolloutTree,
    append_tree,
    drop_torn_tree,
    read_trees,
    tree_from_dict,
    tree_to_dict,
    write_trees,
)  # fmt: skip
from arpo.types import Message, Parse, Reward, StopReason, Task, ToolCall, ToolResult


def make_tree(name: str) -> RolloutTree:
    """Every field of every record has a value that is not its default somewhere."""
    task = Task(
        id=name, messages=(Message(role="system", content="s"), Message(role="user", content="¿Ünïcode?\u2028next\x85line")),
        references=("a", "b"), source="test", ability="qa", extra={"kind": "x", "nested": [1, {"y": None}]},
    )  # fmt: skip
    tree = RolloutTree.from_prompt(task, [1, 2], "prompt")
    call = tree.append(
        tree.root, NodeKind.COMPLETION, [3], text="c", logprobs=[-0.1 - 0.2], entropies=[1 / 3],
        stop_reason=StopReason.STOP_STRING, policy_version=7,
        parse=Parse(calls=(ToolCall(name="search", arguments={"query": "q"}),), num_think_blocks=2, faults=("nested_tag",)),
    )  # fmt: skip
    seen = tree.append(
        call, NodeKind.OBSERVATION, [4, 5], branch_score=0.5, entropy_delta=-0.25,
        results=(ToolResult(content="r", status="error", cached=True, truncated=True, seconds=0.5),),
    )  # fmt: skip
    leaf = tree.append(
        seen, NodeKind.COMPLETION, [6], logprobs=[0.0], entropies=[0.0], stop_reason=StopReason.EOS, is_branch=True,
        parse=Parse(answer="a"),
    )  # fmt: skip
    tree.append(seen, NodeKind.COMPLETION, [7], logprobs=[-1.0], entropies=[0.5], stop_reason=StopReason.LENGTH)
    leaf.reward = Reward(value=0.0, is_correct=False, components={"f1": 0.0}, reason="wrong")
    tree.credit = NodeCredit(weights=[1.0, 1.0, 1.0, 0.5, 0.5], advantages=[0.0, 0.0, 0.7, 0.1 + 0.2, -0.3])
    return tree


@pytest.mark.parametrize("name", ["trees.jsonl", "trees.jsonl.zst"])
def test_round_trip_is_exact(tmp_path: Path, name: str) -> None:
    trees = [make_tree("t0"), make_tree("t1")]
    path = tmp_path / "new folder" / name
    write_trees(path, trees)
    assert list(read_trees(path)) == trees
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_only_what_differs_from_the_default_is_written() -> None:
    nodes = tree_to_dict(make_tree("t"))["nodes"]
    assert nodes[0] == {"id": 0, "parent": None, "kind": "prompt", "token_ids": [1, 2], "text": "prompt"}
    assert nodes[3]["reward"]["value"] == 0.0  # scored 0 is not the same as not scored
    assert "reward" not in nodes[4]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write_trees(path, [make_tree("old")])

    def failing():
        yield make_tree("new")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_trees(path, failing())
    assert [t.task.id for t in read_trees(path)] == ["old"]


GOOD = json.dumps(tree_to_dict(make_tree("t")))


def changed(**fields: object) -> str:
    return json.dumps(tree_to_dict(make_tree("t")) | fields)


def with_node(index: int, **fields: object) -> str:
    data = json.loads(GOOD)
    data["nodes"][index] |= fields
    return json.dumps(data)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "line 2"),
        ("", "line 2"),
        ("[1, 2]", "JSON object"),
        ("null", "JSON object"),
        (changed(version=99), "version 99 cannot be read, this arpo reads 1 and 2"),
        (changed(task={"id": "t"}), "messages"),
        (changed(nodes=[]), "prompt"),
        (changed(nodes=None), "malformed"),
        (with_node(1, kind="guess"), "guess"),
        (with_node(1, unheard_of=1), "unheard_of"),
        (with_node(1, parent=9), "parent 9"),
        (with_node(2, parent=2), "parent 2"),
        (with_node(2, parent=-1), "parent -1"),
        (with_node(2, parent=None), "parent None"),
        (with_node(1, parse={"answer": "a"}), "calls"),
        (with_node(1, stop_reason="tired"), "tired"),
        (changed(credit={"weights": [1.0], "advantages": [0.0]}), "credit of 1 and 1 nodes in a tree of 5"),
        (changed(credit={"weights": [1.0] * 5}), "advantages"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    trees = read_trees(path)
    assert next(trees).task.id == "t"
    with pytest.raises(DataError, match=said) as error:
        next(trees)
    assert f"{path}, line 2" in str(error.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe{}\n")
    with pytest.raises(DataError, match="line 2"):
        list(read_trees(path))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_cut_off_file_is_an_error_not_fewer_trees(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "trees.jsonl.zst"
    write_trees(path, [make_tree(f"t{i}") for i in range(50)])
    payload = path.read_bytes()
    path.write_bytes(payload[: int(kept * len(payload))])
    with pytest.raises(DataError, match="cut off"):
        list(read_trees(path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_trees(tmp_path / "absent.jsonl"))
    path = tmp_path / "plain.jsonl.zst"
    path.write_text(GOOD)
    with pytest.raises(DataError, match="not zstandard"):
        list(read_trees(path))


def test_a_stream_without_its_size_in_the_header_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "streamed.jsonl.zst"
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    path.write_bytes(compressor.compress(f"{GOOD}\n".encode()) + compressor.flush())
    assert [t.task.id for t in read_trees(path)] == ["t"]
    assert tree_from_dict(json.loads(GOOD)) == make_tree("t")


def test_trees_appended_one_by_one_are_read_as_one_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "trees.jsonl.zst"
    trees = [make_tree(f"t{i}") for i in range(20)]
    for tree in trees:
        append_tree(path, tree)
    assert [tree_to_dict(t) for t in read_trees(path)] == [tree_to_dict(t) for t in trees]
    whole = path.read_bytes()
    drop_torn_tree(path)
    assert path.read_bytes() == whole


def test_after_a_kill_amid_an_append_only_that_tree_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl.zst"
    append_tree(path, make_tree("a"))
    first = path.stat().st_size
    append_tree(path, make_tree("b"))
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        drop_torn_tree(path)
        assert path.is_file() == (end >= first)
        append_tree(path, make_tree("c"))
        assert [t.task.id for t in read_trees(path)] == (["a", "c"] if end >= first else ["c"])
    drop_torn_tree(tmp_path / "absent.jsonl.zst")


def test_how_long_it_grew_is_kept_and_may_be_unknown(tmp_path: Path) -> None:
    tree = make_tree("t")
    assert "seconds" not in tree_to_dict(tree)
    tree.seconds = 1.5
    assert tree_from_dict(tree_to_dict(tree)).seconds == 1.5
    assert tree.renumbered(lambda node: (node.id,)).seconds == 1.5
