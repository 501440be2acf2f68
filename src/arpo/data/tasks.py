"""Tasks from files: the public RL schema and plain questions with answers, as parquet or JSON lines.

A row of the public RL schema is

    {data_source, prompt: [{role, content}, ...], ability, reward_model: {ground_truth}, extra_info: {...}}

and any other row is read as `{question, answer}` (`problem` and `Question` are known too; an answer that ends with `#### n`, as
GSM8K's do, is `n`).
"""

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from arpo.errors import DataError
from arpo.tracking.progress import Progress
from arpo.types import Message, Task

QUESTION_KEYS = ("question", "Question", "problem")
ANSWER_KEYS = ("answer", "Answer")
PROMPT_ROLES = ("system", "user", "assistant")
_MAX_REPORTED = 5
_DAMAGED_BOX, _BOX = "\x08oxed", "\\boxed"


class BadRowError(ValueError):
    """Why a row cannot be used; readers turn it into a BadRow."""


@dataclass(slots=True, frozen=True)
class BadRow:
    """A row that could not be used."""

    path: Path
    row: int
    """Counted from 1; in a JSONL file the line."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, row {self.row}: {self.reason}"


@dataclass(slots=True, frozen=True)
class TaskFile:
    """What a file of tasks held."""

    tasks: list[Task]
    bad_rows: list[BadRow]
    """Rows that were left out, in order; for the caller to report."""


def read_tasks(path: Path) -> TaskFile:
    r"""The tasks of a `.parquet` or `.jsonl` file, and the rows that are none.

    Task ids are `<file's stem>-<row>`, rows counted from 1. References are strings; numbers are written out, and blank entries
    of a list are left out, since no answer could match them. Prompts of the public data sets in which `\boxed` was damaged to
    a backspace and `oxed` are repaired, with one warning that says how many.

    Raises:
        DataError: the file is missing, unreadable or of another kind, or holds no usable row.

    Example:
        read_tasks(Path("valid.parquet")).tasks[0].references  # -> ("Eleanor Of Lancaster",)
    """
    tasks: list[Task] = []
    bad_rows: list[BadRow] = []
    num_repaired = 0
    for number, row in read_rows(path):
        try:
            if isinstance(row, BadRowError):
                raise row
            task, was_repaired = _repair(_read_task(row, f"{path.stem}-{number}", path.stem))
        except BadRowError as error:
            bad_rows.append(BadRow(path, number, str(error)))
            continue
        tasks.append(task)
        num_repaired += was_repaired
    if num_repaired:
        warnings.warn(
            f"{path}: \\boxed was damaged in {num_repaired} of {len(tasks)} prompts and has been repaired", stacklevel=2
        )
    if not tasks:
        reasons = "; ".join(str(bad) for bad in bad_rows[:3]) or "it has no rows"
        raise DataError(f"{path}: no usable task ({reasons})")
    return TaskFile(tasks, bad_rows)


def report_bad_rows(bad_rows: Sequence[BadRow], progress: Progress) -> None:
    """Say how many rows were left out, and of the first few which and why."""
    for bad in bad_rows[:_MAX_REPORTED]:
        progress.line(f"left out: {bad}")
    if len(bad_rows) > _MAX_REPORTED:
        progress.line(f"left out: {bad_rows[0].path}: {len(bad_rows)} rows in all, those above being the first")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRowError]]:
    """Yield (number from 1, row) of a `.parquet` or `.jsonl` file; a line that is no JSON object is yielded as the error it is.

    Raises:
        DataError: the file is missing, unreadable or of another kind.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a .parquet or .jsonl file")
    if path.suffix == ".parquet":
        yield from enumerate(_read_parquet(path), start=1)
    elif path.suffix == ".jsonl":
        yield from _read_jsonl(path)
    else:
        raise DataError(f"{path}: files of kind {path.suffix or '(none)'!r} cannot be read; give a .parquet or .jsonl file")


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a parquet file that can be read ({error})") from error


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRowError]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, BadRowError(f"no JSON ({error})")
            continue
        yield number, cast(dict[str, Any], row) if isinstance(row, dict) else BadRowError("no JSON object")


def _read_task(row: dict[str, Any], task_id: str, stem: str) -> Task:
    return _read_rl_row(row, task_id, stem) if "prompt" in row else _read_question_row(row, task_id, stem)


def _read_rl_row(row: dict[str, Any], task_id: str, stem: str) -> Task:
    reward_model = row.get("reward_model")
    if not isinstance(reward_model, Mapping) or "ground_truth" not in reward_model:
        raise BadRowError("no reward_model.ground_truth")
    reward_model = dict(cast(Mapping[str, Any], reward_model))
    references = _read_references(reward_model.pop("ground_truth"), "reward_model.ground_truth")
    known = ("data_source", "prompt", "ability", "reward_model", "extra_info")
    info = row.get("extra_info")
    extra = {
        **{key: value for key, value in row.items() if key not in known},
        **{f"reward_model.{key}": value for key, value in reward_model.items()},
        **(cast(Mapping[str, Any], info) if isinstance(info, Mapping) else {"extra_info": info}),
    }
    return Task(
        id=task_id,
        messages=_read_prompt(row["prompt"]),
        references=references,
        source=str(row.get("data_source") or stem),
        ability=row.get("ability"),
        extra=_jsonable(extra),
    )


def _read_question_row(row: dict[str, Any], task_id: str, stem: str) -> Task:
    question_key = next((key for key in QUESTION_KEYS if key in row), None)
    answer_key = next((key for key in ANSWER_KEYS if key in row), None)
    if question_key is None or answer_key is None:
        raise BadRowError(f"neither a prompt nor a question with an answer; its keys are {sorted(row)}")
    question = row[question_key]
    if not isinstance(question, str) or not question.strip():
        raise BadRowError(f"{question_key} = {question!r} is no text")
    extra = {key: value for key, value in row.items() if key not in (question_key, answer_key)}
    references = _read_references(row[answer_key], answer_key)
    messages = (Message(role="user", content=question),)
    return Task(id=task_id, messages=messages, references=references, source=stem, extra=_jsonable(extra))


def _read_prompt(prompt: object) -> tuple[Message, ...]:
    if not isinstance(prompt, list) or not prompt:
        raise BadRowError("prompt is not a list of messages")
    messages: list[Message] = []
    for message in cast(list[Any], prompt):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if role not in PROMPT_ROLES or not isinstance(content, str):
            raise BadRowError(f"prompt: {message!r} is no message with a role ({', '.join(PROMPT_ROLES)}) and a text")
        messages.append(Message(role=role, content=content))
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise BadRowError("prompt does not end with a question of the user")
    return tuple(messages)


def _read_references(value: object, key: str) -> tuple[str, ...]:
    entries = cast(list[object], value) if isinstance(value, list) else [value]
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float):
            raise BadRowError(f"{key} = {value!r} is no text, number or list of these")
    texts = tuple(str(entry).rsplit("\n#### ", 1)[-1].strip() for entry in entries)
    references = tuple(text for text in texts if text)
    if not references:
        raise BadRowError(f"{key} = {value!r} is blank")
    return references


def _repair(task: Task) -> tuple[Task, bool]:
    r"""The task with `\boxed` as it was meant, and whether that changed it."""
    if not any(_DAMAGED_BOX in message.content for message in task.messages):
        return task, False
    messages = tuple(Message(role=m.role, content=m.content.replace(_DAMAGED_BOX, _BOX)) for m in task.messages)
    return dataclasses.replace(task, messages=messages), True


def _jsonable(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What the row carried besides; keys without a value are left out, dates and the like become text."""
    return json.loads(json.dumps({key: value for key, value in extra.items() if value is not None}, default=str))
