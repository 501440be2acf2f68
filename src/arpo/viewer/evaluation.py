"""An evaluation as one HTML page: metrics with intervals, and every question with its trees, to filter and search."""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arpo.tree import NodeKind, RolloutTree
from arpo.viewer.page import environment, write_page
from arpo.viewer.run import ShownTree
from arpo.viewer.tree_view import tree_view

BLOCK_SIZE = 16
MAX_TREE_BYTES = 64_000_000
"""Largest total size of the compressed trees; the page says how many trees it leaves out."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Estimate:
    """A value to show."""

    name: str
    text: str
    """The value as text."""
    interval: str = ""
    """`0.83 to 0.88`; empty for none."""
    note: str = ""
    bar: tuple[float, float, float] | None = None
    """(low, value, high) of a share, for its bar; None draws none."""


@dataclass(slots=True, frozen=True, kw_only=True)
class MetricRow:
    """A row of the table of metrics."""

    name: str
    meaning: str
    cells: Sequence[Estimate | None]
    """One per mode; None where the mode has no such metric."""


@dataclass(slots=True, frozen=True, kw_only=True)
class ShownQuestion:
    """A question as the page lists it."""

    id: str
    question: str
    references: Sequence[str]
    answer: str
    """The graded answer of the headline's mode, its first sample."""
    extraction: str
    reason: str
    share: float | None
    """Mean score of the headline's mode; None when nothing was graded."""
    num_right: int
    """Right ones among all answers."""
    num_answers: int
    num_tool_calls: float
    num_tokens: float
    groups: Mapping[str, str]


@dataclass(slots=True, frozen=True, kw_only=True)
class EvaluationPage:
    """The content of the page."""

    title: str
    lead: str
    tiles: Sequence[Estimate]
    modes: Sequence[str]
    metrics: Sequence[MetricRow]
    groups: Mapping[str, Sequence[Estimate]]
    """Key of the tasks' data -> a bar per value."""
    group_metric: str
    notes: Sequence[str]
    """Sentences on how to read the metrics."""
    questions: Sequence[ShownQuestion]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


def write_evaluation(out: Path, page: EvaluationPage, trees: Iterable[tuple[str, str, RolloutTree]]) -> Path:
    """Write the page to `out`, whole or not at all; return `out`.

    The page holds everything inline and makes no request. Trees lie in compressed blocks; the browser decompresses a block when
    the reader opens a question of it, so that thousands of questions stay quick.

    Args:
        out: The HTML file.
        page: Metrics and questions.
        trees: (question's id, label, tree); trees of a question are shown in this order.
    """
    rendered: dict[str, list[str]] = {}
    template = environment().get_template("tree.html.j2").module
    for task_id, label, tree in trees:
        view = tree_view(ShownTree(label, tree), None)
        parts = rendered.setdefault(task_id, [])
        parts.append(str(template.tree_article(view, False)))  # pyright: ignore[reportAttributeAccessIssue]
        if len(tree.leaves()) == 1:
            parts.append(str(template.transcript(_transcript(tree))))  # pyright: ignore[reportAttributeAccessIssue]
    blocks, positions, num_left_out = _pack([q.id for q in page.questions], rendered)
    rows = [_row(question, positions.get(question.id)) for question in page.questions]
    return write_page(
        out,
        "evaluation.html.j2",
        title=page.title,
        lead=page.lead,
        page=page,
        data={"rows": rows, "groups": {key: _values(page.questions, key) for key in page.groups}},
        blocks=blocks,
        num_left_out=num_left_out,
    )


def _pack(ids: Sequence[str], rendered: Mapping[str, list[str]]) -> tuple[list[str], dict[str, tuple[int, int]], int]:
    """Blocks of compressed HTML, question id -> (block, index in it), and the number of questions without room."""
    known = [i for i in ids if i in rendered]
    blocks: list[str] = []
    positions: dict[str, tuple[int, int]] = {}
    size = 0
    for start in range(0, len(known), BLOCK_SIZE):
        members = known[start : start + BLOCK_SIZE]
        content = json.dumps(["".join(rendered[i]) for i in members], ensure_ascii=False).encode()
        block = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        size += len(block)
        if size > MAX_TREE_BYTES:
            return blocks, positions, len(known) - len(positions)
        positions |= {task_id: (len(blocks), index) for index, task_id in enumerate(members)}
        blocks.append(block)
    return blocks, positions, 0


def _row(question: ShownQuestion, position: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "id": question.id, "question": question.question, "references": " or ".join(question.references),
        "answer": question.answer, "extraction": question.extraction, "reason": question.reason, "share": question.share,
        "right": question.num_right, "answers": question.num_answers, "calls": question.num_tool_calls,
        "tokens": question.num_tokens, "groups": dict(question.groups), "position": position,
    }  # fmt: skip


def _values(questions: Sequence[ShownQuestion], key: str) -> list[str]:
    return sorted({q.groups[key] for q in questions if key in q.groups})


def _transcript(tree: RolloutTree) -> Iterator[tuple[str, str, str]]:
    """(kind, who, text) of each step of a tree with one trajectory."""
    for node in tree.depth_first():
        if node.kind is NodeKind.OBSERVATION:
            who = "tool result" if node.results else "environment"
            who += "".join(f", {r.status}" for r in node.results if r.status != "success")
            yield "observation", who, "\n\n".join(said.content for said in (*node.results, *node.messages))
        elif node.is_sampled:
            yield "completion", "policy", node.text
