"""The record of every answer: a line of `records.jsonl`, the same bytes for the same answers. Times are in another file."""

import json
from collections import Counter
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
from arpo.types import Reward, Task

Mode = Literal["greedy", "sampled"]

RECORDS_FILE = "records.jsonl"
TIMES_FILE = "times.jsonl"
FAILURES_FILE = "failures.jsonl"
GROUP_KEYS = (
    "kind", "never_seen", GROUP, "level", "Level", "type", "category", "subject", "domain", "difficulty", "difficulty_level",
)  # fmt: skip
"""Keys of `Task.extra` whose values split the metrics."""


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
    """Text of the answer block; None without one."""
    extraction: Extraction
    """How the answer was found; see `arpo.rewards.grading.Extraction`."""
    extracted: str
    """The graded answer; empty without one."""
    score: float | None
    """Value of the headline metric, in [0, 1]; None when the answer could not be graded."""
    is_correct: bool | None
    """Whether the answer is right, by the judge, else the grader, else the reward; None where the judge gave no verdict."""
    reason: str
    """The grader's reason."""
    exact_match: float
    f1: float
    reward: float | None
    """None where the judge gave no verdict."""
    format_valid: float
    num_tool_calls: int
    tool_calls: dict[str, int]
    """Calls by tool name."""
    failed_tool_calls: dict[str, int]
    """Of these, calls without success."""
    num_sampled_tokens: int
    groups: dict[str, str]
    """Values of `GROUP_KEYS` in the task's data: kind, level, category and the like."""
    response: str
    """Everything after the prompt."""


@dataclass(slots=True, frozen=True, kw_only=True)
class AnswerTime:
    """Times of an answer."""

    task_id: str
    mode: Mode
    sample: int
    seconds: float
    """Wall time of the task's tree, with all its answers of the mode, waiting included."""
    tool_seconds: float
    """Wall time of this answer's tool calls, summed."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Failure:
    """A question without an answer."""

    task_id: str
    mode: Mode
    error: str
    """What failed, in the server's own words where it was one."""


def tree_records(tree: RolloutTree, mode: Mode, metric: str) -> list[Record]:
    """The records of a scored tree, in the order of samples."""
    return [make_record(trajectory, mode, sample, metric) for sample, trajectory in enumerate(tree.trajectories())]


def make_record(trajectory: Trajectory, mode: Mode, sample: int, metric: str = "accuracy") -> Record:
    """The record of a scored trajectory.

    Its score is the reward component that `metric` names; for `accuracy`, 1 for a right answer and 0 for a wrong one.
    """
    leaf, task, parse = trajectory.leaf, trajectory.task, trajectory.final_parse
    answer = read_answer(trajectory)
    reward = leaf.reward
    components = measure(trajectory) if reward is None else reward.components
    calls = trajectory.tool_calls
    return Record(
        task_id=task.id,
        mode=mode,
        sample=sample,
        question=task.question,
        references=task.references,
        answer=parse.answer if parse is not None else None,
        extraction=answer.extraction,
        extracted=answer.text,
        score=_score(reward, metric),
        is_correct=leaf.is_correct,
        reason=f"ungraded: {leaf.ungraded}" if reward is None else reward.reason,
        exact_match=components.get("exact_match", 0.0),
        f1=components.get("f1", 0.0),
        reward=None if reward is None else reward.value,
        format_valid=components["format"],
        num_tool_calls=len(calls),
        tool_calls=_count(call.name for call, _ in calls),
        failed_tool_calls=_count(call.name for call, result in calls if result.status != "success"),
        num_sampled_tokens=trajectory.num_sampled_tokens,
        groups=_groups(task),
        response=trajectory.response_text,
    )


def tree_times(tree: RolloutTree, mode: Mode) -> list[AnswerTime]:
    """The times of a tree's answers, in the order of samples."""
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


def write_lines(path: Path, rows: Iterable[Record] | Iterable[AnswerTime] | Iterable[Failure]) -> None:
    """Write records, times or failures as JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def read_records(run: Path) -> list[Record]:
    """The records of a finished evaluation, in the order of its tasks, greedy ones first.

    Raises:
        DataError: the folder has none, or a line is no record; the message has its number.
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


def _score(reward: Reward | None, metric: str) -> float | None:
    if reward is None:
        return None
    if metric == "accuracy":
        return None if reward.is_correct is None else float(reward.is_correct)
    return reward.components.get(metric)


def _groups(task: Task) -> dict[str, str]:
    """By `GROUP_KEYS`; without a benchmark's group that repeats another key's value."""
    values = {key: _text(task.extra[key]) for key in GROUP_KEYS if task.extra.get(key) is not None}
    group = values.pop(GROUP, None)
    return values if group is None or group in values.values() else {GROUP: group, **values}


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
