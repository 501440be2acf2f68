"""What is kept of every answer: a line of `records.jsonl`, the same bytes for the same answers; times are kept apart."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from arpo.data.benchmarks import GROUP
from arpo.errors import DataError
from arpo.files.whole import write_text
from arpo.rewards.extraction import read_answer
from arpo.rewards.grading import Extraction
from arpo.rewards.measure import measure
from arpo.tree import RolloutTree, Trajectory
from arpo.types import Reward, Task, ToolResult

Mode = Literal["greedy", "sampled"]

RECORDS_FILE = "records.jsonl"
TIMES_FILE = "times.jsonl"
GROUP_KEYS = (
    "kind", "never_seen", GROUP, "level", "Level", "type", "category", "subject", "domain", "difficulty", "difficulty_level",
)  # fmt: skip
"""Keys of a task's data whose values split the figures."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Record:
    """One answer to one task."""

    task_id: str
    mode: Mode
    sample: int
    """Index among the task's answers of the mode."""
    question: str
    references: tuple[str, ...]
    answer: str | None
    """Text of the answer block; None when there is none."""
    extraction: Extraction
    """How the graded answer was found; see `arpo.rewards.grading.Extraction`."""
    extracted: str
    """The graded answer; empty when there is none."""
    score: float | None
    """What the metric says of the answer, in [0, 1]; None when it could not be graded."""
    is_correct: bool | None
    """Whether the answer is right, by the judge, else the grader, else the reward; None where the judge gave no verdict."""
    reason: str
    """The grader's words."""
    exact_match: float
    f1: float
    reward: float | None
    """None where the judge gave no verdict."""
    format_valid: float
    num_tool_calls: int
    tool_calls: dict[str, int]
    """Calls by the tool's name."""
    failed_tool_calls: dict[str, int]
    """Of these, those whose result was no success."""
    num_sampled_tokens: int
    groups: dict[str, str]
    """Kind, level, category and the like, where the task's data say them: those of `GROUP_KEYS`."""
    response: str
    """Everything after the prompt."""


@dataclass(slots=True, frozen=True, kw_only=True)
class AnswerTime:
    """How long an answer took."""

    task_id: str
    mode: Mode
    sample: int
    seconds: float
    """Wall time from the start of the task's tree to its end: that of all the mode's answers to it, waiting included."""
    tool_seconds: float
    """Wall time of this answer's tool calls, summed."""


def tree_records(tree: RolloutTree, mode: Mode, metric: str) -> list[Record]:
    """The records of a scored tree, in the order of its samples."""
    return [make_record(trajectory, mode, sample, metric) for sample, trajectory in enumerate(tree.trajectories())]


def make_record(trajectory: Trajectory, mode: Mode, sample: int, metric: str = "accuracy") -> Record:
    """The record of a scored trajectory.

    Its score is the reward component that `metric` names; of the metric `accuracy`, 1 for a right answer and 0 for a wrong one.
    """
    leaf, task, parse = trajectory.leaf, trajectory.task, trajectory.final_parse
    found = read_answer(trajectory)
    reward = leaf.reward
    components = measure(trajectory) if reward is None else reward.components
    calls = [(call.name, result) for call, result in _calls(trajectory)]
    return Record(
        task_id=task.id,
        mode=mode,
        sample=sample,
        question=task.question,
        references=task.references,
        answer=parse.answer if parse is not None else None,
        extraction=found.extraction,
        extracted=found.text,
        score=_score(reward, metric),
        is_correct=leaf.is_correct,
        reason=f"ungraded: {leaf.ungraded}" if reward is None else reward.reason,
        exact_match=components["exact_match"],
        f1=components["f1"],
        reward=None if reward is None else reward.value,
        format_valid=components["format"],
        num_tool_calls=len(calls),
        tool_calls=_count(name for name, _ in calls),
        failed_tool_calls=_count(name for name, result in calls if result.status != "success"),
        num_sampled_tokens=trajectory.num_sampled_tokens,
        groups=_groups(task),
        response=trajectory.response_text,
    )


def tree_times(tree: RolloutTree, mode: Mode) -> list[AnswerTime]:
    """The times of a tree's answers, in the order of its samples."""
    return [
        AnswerTime(
            task_id=tree.task.id,
            mode=mode,
            sample=sample,
            seconds=tree.seconds or 0.0,
            tool_seconds=round(sum(result.seconds for result in trajectory.tool_results), 4),
        )
        for sample, trajectory in enumerate(tree.trajectories())
    ]


def write_lines(path: Path, rows: Iterable[Record] | Iterable[AnswerTime]) -> None:
    """Write records or times as JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def read_records(run: Path) -> list[Record]:
    """The records of a finished evaluation, in the order of its tasks, greedy ones first.

    Raises:
        DataError: the folder holds none, or a line is no record (named by its number).
    """
    rows = _read_lines(run / RECORDS_FILE, Record)
    for row in rows:
        row["references"] = tuple(row["references"])
    return [Record(**row) for row in rows]


def read_times(run: Path) -> list[AnswerTime]:
    """The times of a finished evaluation, in the order of its records.

    Raises:
        DataError: as `read_records`.
    """
    return [AnswerTime(**row) for row in _read_lines(run / TIMES_FILE, AnswerTime)]


def _read_lines(path: Path, cls: type[Record] | type[AnswerTime]) -> Sequence[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); `arpo eval` writes it when it ends, "
            f"and `arpo eval --resume {path.parent}` goes on with an evaluation that was stopped"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from error
    names = set(cls.__slots__)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict) or set(row) != names:
            raise DataError(
                f"{path}, line {number}: not what this arpo writes; "
                f"`arpo eval --resume {path.parent}` writes it again from the answers"
            )
        rows.append(row)
    return rows


def _calls(trajectory: Trajectory) -> Iterable[tuple[Any, ToolResult]]:
    """(call, result) of every call that was carried out, in order."""
    for node, observation in zip(trajectory.nodes, trajectory.nodes[1:], strict=False):
        yield from zip(node.calls, observation.results, strict=False)


def _score(reward: Reward | None, metric: str) -> float | None:
    if reward is None:
        return None
    if metric == "accuracy":
        return None if reward.is_correct is None else float(reward.is_correct)
    return reward.components.get(metric)


def _groups(task: Task) -> dict[str, str]:
    """By `GROUP_KEYS`; a benchmark's group that is one of the others under its own name is said once."""
    found = {key: _text(task.extra[key]) for key in GROUP_KEYS if task.extra.get(key) is not None}
    group = found.pop(GROUP, None)
    return found if group is None or group in found.values() else {GROUP: group, **found}


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
