"""Rollout trees as JSON lines, one tree a line, zstandard-compressed when the name ends in `.zst`."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import zstandard

from arpo.errors import DataError
from arpo.files.whole import whole
from arpo.tree.credit import NodeCredit
from arpo.tree.node import Node, NodeKind
from arpo.tree.tree import RolloutTree
from arpo.types import Message, Parse, Reward, StopReason, StrPath, Task, ToolCall, ToolResult

FORMAT_VERSION = 2
_CHUNK = 1 << 16


def tree_to_dict(tree: RolloutTree) -> dict[str, Any]:
    """The tree as JSON-serialisable data; fields at their default are left out of the nodes."""
    data: dict[str, Any] = {"version": FORMAT_VERSION, "task": asdict(tree.task), "settings": tree.settings}
    if tree.seconds is not None:
        data["seconds"] = tree.seconds
    data["nodes"] = [_node_to_dict(n) for n in tree.nodes]
    if tree.credit is not None:
        data["credit"] = asdict(tree.credit)
    return data


def tree_from_dict(data: Any) -> RolloutTree:
    """The tree that `tree_to_dict` wrote, in format 1 or 2.

    Raises:
        DataError: not a tree record, an unknown format version, missing or unknown keys, or nodes out of order.
    """
    if not isinstance(data, dict):
        raise DataError(f"rollout tree: a record must be a JSON object, not {data!r:.40}")
    data = cast(dict[str, Any], data)
    if data.get("version") not in (1, FORMAT_VERSION):
        raise DataError(f"rollout tree: version {data.get('version')!r} cannot be read, this arpo reads 1 and {FORMAT_VERSION}")
    try:
        data = _upgrade(data) if data["version"] == 1 else data
        task = dict(data["task"])
        task["messages"] = tuple(Message(**m) for m in task["messages"])
        task["references"] = tuple(task["references"])
        nodes = [_node_from_dict(n) for n in data["nodes"]]
        tree = _connect(Task(**task), nodes, dict(data.get("settings", {})))
        tree.seconds = data.get("seconds")
        tree.credit = _read_credit(data["credit"], len(nodes)) if "credit" in data else None
        return tree
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"rollout tree: malformed record ({error}); was the file written by another program?") from error


def write_trees(path: StrPath, trees: Iterable[RolloutTree]) -> None:
    """Write trees to `path` atomically: the file appears whole or not at all."""
    path = Path(path)
    lines = b"".join(_line(tree) for tree in trees)
    payload = zstandard.compress(lines) if path.suffix == ".zst" else lines
    with whole(path) as partial:
        partial.write_bytes(payload)


def append_tree(path: StrPath, tree: RolloutTree) -> None:
    """Append a tree to the `.zst` file at `path` as a separate frame, so that a kill loses at most this tree.

    After a kill `drop_torn_tree` restores the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = zstandard.compress(_line(tree))
    with path.open("ab") as file:
        file.write(frame)


def drop_torn_tree(path: StrPath) -> None:
    """Remove an incomplete last frame from a `.zst` file, as a kill during `append_tree` leaves it; ignores a missing file.

    Raises:
        DataError: the file is damaged before its last frame.
    """
    path = Path(path)
    if path.is_file():
        end = max((end for _, end in _frames(path)), default=0)
        if end < path.stat().st_size:
            os.truncate(path, end)
        if not end:
            path.unlink()


def read_trees(path: StrPath) -> Iterator[RolloutTree]:
    """Yield the trees of a file one at a time; of a compressed file at most one frame is in memory.

    Raises:
        DataError: the file is missing or truncated, or a line is not a tree (the message has its number).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file of rollout trees")
    for number, line in enumerate(_lines(path), start=1):
        try:
            yield tree_from_dict(json.loads(line))
        except ValueError as error:  # no UTF-8, no JSON, no tree
            raise DataError(f"{path}, line {number}: {error}") from error


def _line(tree: RolloutTree) -> bytes:
    return (json.dumps(tree_to_dict(tree), ensure_ascii=False) + "\n").encode()


def _lines(path: Path) -> Iterator[bytes]:
    if path.suffix != ".zst":
        yield from path.read_bytes().splitlines()
        return
    end = 0
    for content, end in _frames(path):  # noqa: B007
        yield from content.splitlines()
    if end < max(path.stat().st_size, 1):
        raise DataError(f"{path}: the file is cut off after byte {end}; write it again")


def _frames(path: Path) -> Iterator[tuple[bytes, int]]:
    """(content, byte offset of its end) of each complete zstandard frame, in order.

    Raises:
        DataError: the data is not a zstandard frame.
    """
    with path.open("rb") as file:
        data = b""
        while data := data or file.read(_CHUNK):
            frame, content = zstandard.ZstdDecompressor().decompressobj(), list[bytes]()
            while data and not frame.eof:
                try:
                    content.append(frame.decompress(data))
                except zstandard.ZstdError as error:
                    raise DataError(f"{path}: not zstandard-compressed before byte {file.tell()} ({error})") from error
                data = frame.unused_data if frame.eof else file.read(_CHUNK)
            if frame.eof:
                yield b"".join(content), file.tell() - len(data)


def _connect(task: Task, nodes: list[Node], settings: dict[str, Any]) -> RolloutTree:
    tree = RolloutTree(task, nodes, [[] for _ in nodes], settings)
    if not nodes or nodes[0].parent is not None:
        raise ValueError("a tree begins with its prompt")
    for index, node in enumerate(nodes[1:], start=1):
        if node.parent is None or not 0 <= node.parent < index:
            raise ValueError(f"node {index} has parent {node.parent}; parents come before children")
        tree.children[node.parent].append(index)
    return tree


def _read_credit(data: dict[str, Any], num_nodes: int) -> NodeCredit:
    credit = NodeCredit(**data)
    if not len(credit.weights) == len(credit.advantages) == num_nodes:
        raise ValueError(f"credit of {len(credit.weights)} and {len(credit.advantages)} nodes in a tree of {num_nodes}")
    return credit


_DEFAULTS = {f.name: f.default for f in fields(Node)}


def _node_to_dict(node: Node) -> dict[str, Any]:
    values = {f.name: getattr(node, f.name) for f in fields(Node)}
    return {k: _plain(v) for k, v in values.items() if not (k in _DEFAULTS and v == _DEFAULTS[k]) and v != {}}


def _plain(value: Any) -> Any:
    """A record or a tuple of records as JSON-serialisable data; other values unchanged."""
    if isinstance(value, tuple):
        return [asdict(record) for record in cast(tuple[Any, ...], value)]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _node_from_dict(data: dict[str, Any]) -> Node:
    data = dict(data)
    data.setdefault("parent", None)
    data["kind"] = NodeKind(data["kind"])
    if "stop_reason" in data:
        data["stop_reason"] = StopReason(data["stop_reason"])
    if "parse" in data:
        parse = dict(data["parse"])
        parse["calls"] = tuple(ToolCall(**call) for call in parse["calls"])
        parse["faults"] = tuple(parse["faults"])
        data["parse"] = Parse(**parse)
    if "reward" in data:
        data["reward"] = Reward(**data["reward"])
    data["results"] = tuple(ToolResult(**result) for result in data.get("results", ()))
    data["messages"] = tuple(Message(**message) for message in data.get("messages", ()))
    return Node(**data)


def _upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """A tree of format 1 in format 2.

    Format 1 stored the first call and result of a turn apart from the others, and reward and credit in single fields of the
    node; it had neither `is_correct` nor `is_done`, but a field `may_pass` on results.
    """
    nodes = [dict(node) for node in data["nodes"]]
    weights, advantages = ([node.pop(name, None) for node in nodes] for name in ("weight", "advantage"))
    nodes = [_upgrade_node(node) for node in nodes]
    parents = {node.get("parent") for node in nodes}
    for node in nodes:
        if node["id"] not in parents and node["kind"] == NodeKind.COMPLETION:
            node["is_done"] = not node.get("parse", {}).get("calls")
    if None in weights:
        return data | {"nodes": nodes}
    return data | {"nodes": nodes, "credit": {"weights": weights, "advantages": advantages}}


def _upgrade_node(node: dict[str, Any]) -> dict[str, Any]:
    if "parse" in node:
        parse = dict(node["parse"])
        calls = (parse.pop("tool_call"), *parse.pop("further_calls", ()))
        node["parse"] = parse | {"calls": [call for call in calls if call is not None]}
    results = (node.pop("tool_result", None), *node.pop("further_results", ()))
    node["results"] = [{k: v for k, v in result.items() if k != "may_pass"} for result in results if result is not None]
    value, reason, components = node.pop("reward", None), node.pop("reward_reason", ""), node.pop("reward_components", {})
    if value is not None:
        right = components.get("judge", components.get("exact_match", components.get("accuracy")))
        is_correct = None if right is None else right == 1
        node["reward"] = {"value": value, "is_correct": is_correct, "components": components, "reason": reason}
    elif "ungraded" in components:
        node["ungraded"] = reason.removeprefix("ungraded: ")
    return node
