"""Tasks from files: the public RL schema and plain questions with answers.

A row of the public RL schema is

    {data_source, prompt: [{role, content}, ...], ability, reward_model: {ground_truth}, extra_info: {...}}

and any other row is read as `{question, answer}` (`QUESTION_KEYS` and `ANSWER_KEYS` have the other names; an answer that ends
with `#### n`, as in GSM8K, is `n`). `arpo.files.sources` says what a path may name.
"""

import ast
import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, cast

from arpo.data.messages import AssistantMessage, read_message, refuse_unread
from arpo.files.rows import BadRowError, shorten
from arpo.files.sources import BadRow, ParsedRow, Source, no_rows, open_source
from arpo.tracking.progress import Progress
from arpo.types import Message, StrPath, Task

QUESTION_KEYS = ("question", "Question", "problem")
ANSWER_KEYS = ("answer", "Answer", "golden_answers", "answers", "possible_answers", "ground_truth", "target")
PROMPT_ROLES = ("system", "user", "assistant")
_REFERENCES = ("target", "value", "text", "aliases")
"""Keys of an object of references: Search-R1's, TriviaQA's and SQuAD's."""
_NO_REFERENCES = (
    "normalized_value", "normalized_aliases", "matched_wiki_entity_name", "normalized_matched_wiki_entity_name", "type",
    "answer_start",
)  # fmt: skip
"""Keys beside them that say nothing more."""
_PICTURES = ("image", "images", "audio", "audios", "video", "videos")
_MAX_REPORTED = 5
_DAMAGED_BOX, _BOX = "\x08oxed", "\\boxed"


@dataclass(slots=True, frozen=True)
class TaskFile:
    """The tasks of a source."""

    tasks: Sequence[Task]
    bad_rows: list[BadRow]
    """Rows that were dropped, in order; the caller reports them."""


class ReadTask(NamedTuple):
    r"""A task, and whether a damaged `\boxed` in its prompt was repaired."""

    task: Task
    was_repaired: bool


def read_tasks(path: StrPath) -> TaskFile:
    r"""The tasks of a source, all in memory, and the rows that are none; `open_tasks` leaves them on disk.

    Task ids are `<name of the source>-<row>`, rows counted from 1 through all files. References are strings; numbers become
    text, and blank entries of a list are skipped, as no answer could match them. Public data sets have prompts in which
    `\boxed` became a backspace and `oxed`: these are repaired, and one warning gives their number.

    Raises:
        DataError: there is no such source, it is unreadable or of another kind, or it has no usable row.

    Example:
        read_tasks("valid.parquet").tasks[0].references  # -> ("Eleanor Of Lancaster",)
    """
    tasks: list[Task] = []
    path = Path(path)
    return TaskFile(tasks, collect_tasks(path, open_source(path), lambda row: tasks.append(row.value.task)))


def collect_tasks(path: Path, source: Source, add: Callable[[ParsedRow[ReadTask]], object]) -> list[BadRow]:
    """Pass every task of a source to `add`; return the rows that are none. Warns of repaired prompts.

    Args:
        path: Name of the source, for messages.
        source: The rows.
        add: Gets each task with its row, in order.

    Raises:
        DataError: a file cannot be read, or there is no task.
    """
    bad_rows: list[BadRow] = []
    num_tasks = num_repaired = 0
    for row in scan_tasks(source, bad_rows.append):
        add(row)
        num_tasks += 1
        num_repaired += row.value.was_repaired
    if num_repaired:
        warnings.warn(f"{path}: \\boxed was damaged in {num_repaired} of {num_tasks} prompts and is repaired", stacklevel=3)
    if not num_tasks:
        raise no_rows(path, "usable task", bad_rows)
    return bad_rows


def scan_tasks(source: Source, on_bad_row: Callable[[BadRow], object]) -> Iterator[ParsedRow[ReadTask]]:
    """Every task of a source, in order; `on_bad_row` gets the rows that are none.

    Raises:
        DataError: a file cannot be read.
    """
    return source.parse(lambda row, number: to_task(row, f"{source.name}-{number}", source.name), on_bad_row)


def to_task(row: Mapping[str, Any], task_id: str, source: str) -> ReadTask:
    """The task of a row.

    Args:
        row: As read from a file.
        task_id: Id of the task.
        source: `Task.source` where the row names none.

    Raises:
        BadRowError: the row is no task, and why.
    """
    read = _read_rl_row if "prompt" in row else _read_question_row
    refuse_unread(row, _PICTURES)
    try:
        return _repair(read(row, task_id, source))
    except RecursionError as error:
        raise BadRowError("values nested too deeply") from error


def question_key(task: Task, *, with_references: bool = False) -> int:
    """A number of 64 bits that two tasks share when they ask the same: the messages without those of the system.

    Args:
        task: The task.
        with_references: Whether other references make it another question.
    """
    texts = [f"{m.role} {m.content.strip()}" for m in task.messages if m.role != "system"]
    key = repr((texts, sorted(task.references) if with_references else ())).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big", signed=True)


def count_questions(num_tasks: int, num_questions: int) -> str:
    """How many questions some tasks ask, and how often each, for people; empty where no task repeats one."""
    if not 0 < num_questions < num_tasks:
        return ""
    factor = num_tasks / num_questions
    each = f", each about {factor:.3g} times" if factor >= 1.1 else ""
    return f"{num_tasks} tasks ask {num_questions} different questions{each}"


def report_bad_rows(bad_rows: Sequence[BadRow], progress: Progress) -> None:
    """Report the first few dropped rows with the reason, and the number of all."""
    for bad in bad_rows[:_MAX_REPORTED]:
        progress.line(f"dropped: {bad}")
    if len(bad_rows) > _MAX_REPORTED:
        progress.line(f"dropped: {bad_rows[0].path}: {len(bad_rows)} rows in all, of which the first are above")


def _read_rl_row(row: Mapping[str, Any], task_id: str, source: str) -> Task:
    reward_model = _decode(row.get("reward_model"))
    reward_model = dict(cast(Mapping[str, Any], reward_model)) if isinstance(reward_model, Mapping) else {}
    question_key, answer_key = _first(row, QUESTION_KEYS), _first(row, ANSWER_KEYS)
    known = {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    ground_truth = reward_model.pop("ground_truth", None)
    if ground_truth is not None:
        references = _read_references(ground_truth, "reward_model.ground_truth")
    elif answer_key is not None:
        references = _read_references(row[answer_key], answer_key)
        known.add(answer_key)
    else:
        raise BadRowError(f"no reward_model.ground_truth, nor {' or '.join(ANSWER_KEYS)}")
    if row["prompt"] or question_key is None:
        messages = _read_prompt(row["prompt"])
    else:
        messages = _read_question(row, question_key)
        known.add(question_key)
    ability = row.get("ability")
    if ability is not None and not isinstance(ability, str):
        raise BadRowError(f"ability = {shorten(ability)} is no text")
    info = row.get("extra_info")
    extra = {
        **{key: value for key, value in row.items() if key not in known},
        **{f"reward_model.{key}": value for key, value in reward_model.items()},
        **(cast(Mapping[str, Any], info) if isinstance(info, Mapping) else {"extra_info": info}),
    }
    return Task(
        id=task_id,
        messages=messages,
        references=references,
        source=str(row.get("data_source") or source),
        ability=ability,
        extra=_jsonable(extra),
    )


def _read_question_row(row: Mapping[str, Any], task_id: str, source: str) -> Task:
    question_key = _first(row, QUESTION_KEYS) or next((key for key in QUESTION_KEYS if key in row), None)
    answer_key = _first(row, ANSWER_KEYS) or next((key for key in ANSWER_KEYS if key in row), None)
    if question_key is None or answer_key is None:
        raise BadRowError(f"neither a prompt nor a question with an answer; its keys are {shorten(sorted(row, key=str))}")
    messages = _read_question(row, question_key)
    extra = {key: value for key, value in row.items() if key not in (question_key, answer_key)}
    references = _read_references(row[answer_key], answer_key)
    return Task(id=task_id, messages=messages, references=references, source=source, extra=_jsonable(extra))


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of the keys that has a value."""
    return next((key for key in keys if row.get(key) not in (None, "", [], {})), None)


def _read_question(row: Mapping[str, Any], key: str) -> tuple[Message, ...]:
    question = row[key]
    if not isinstance(question, str) or not question.strip():
        raise BadRowError(f"{key} = {shorten(question)} is no text")
    return (Message(role="user", content=question),)


def _read_prompt(prompt: object) -> tuple[Message, ...]:
    decoded = _decode(prompt)
    if isinstance(prompt, str) and not (isinstance(decoded, list) and decoded and isinstance(decoded[0], dict)):
        decoded = [{"role": "user", "content": prompt}]
    if not isinstance(decoded, list) or not decoded:
        raise BadRowError(f"prompt = {shorten(prompt)} is neither a text nor a list of messages")
    messages: list[Message] = []
    for entry in cast(list[Any], decoded):
        try:
            message = read_message(entry).message
        except BadRowError as error:
            raise BadRowError(f"prompt: {error}") from error
        if message.role not in PROMPT_ROLES or isinstance(message, AssistantMessage):
            raise BadRowError(f"prompt: {shorten(entry)} is no message of {', '.join(PROMPT_ROLES)} with a text alone")
        messages.append(message)
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise BadRowError("prompt does not end with a question of the user")
    return tuple(messages)


def _read_references(value: object, key: str) -> tuple[str, ...]:
    entries = _entries(value, key)
    for entry in entries:
        is_odd = isinstance(entry, bool) or (isinstance(entry, float) and not math.isfinite(entry))
        if is_odd or not isinstance(entry, str | int | float):
            raise BadRowError(f"{key} = {shorten(value)} is no text, number or list of these")
    texts = tuple(str(entry).rsplit("\n#### ", 1)[-1].strip() for entry in entries)
    references = tuple(text for text in texts if text)
    if not references:
        raise BadRowError(f"{key} = {shorten(value)} is blank")
    return references


def _entries(value: object, key: str) -> list[object]:
    """The references of a value: one, a list, an object of them, or the text of a list of texts or of an object.

    Example: `{"target": ["a", "b"]}`, `{"value": "a", "aliases": ["b"]}`, `'["a", "b"]'` and `"['a', 'b']"` give a and b;
    `"[1, 2]"` is one reference, an interval or list.
    """
    decoded = _decode(value)
    if isinstance(decoded, dict):
        fields = {k: v for k, v in cast(dict[str, object], decoded).items() if v is not None and k not in _NO_REFERENCES}
        if fields and set(fields) <= set(_REFERENCES):
            found = [entry for name in _REFERENCES if name in fields for entry in _entries(fields[name], f"{key}.{name}")]
            return [entry for i, entry in enumerate(found) if entry not in found[:i]]
        if not isinstance(value, str):
            known = ", ".join(_REFERENCES)
            raise BadRowError(f"{key} = {shorten(value)} is no text, number or list of these, nor an object of {known}")
    if isinstance(value, str):
        is_list = isinstance(decoded, list) and decoded and all(isinstance(text, str) for text in cast(list[Any], decoded))
        return cast(list[object], decoded) if is_list else [value]
    return cast(list[object], value) if isinstance(value, list) else [value]


def _decode(value: object) -> object:
    """The value of the text of a list or object, in JSON or as Python prints it; any other value as it is."""
    if not isinstance(value, str) or not (text := value.strip()).startswith(("[", "{")):
        return value
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text.startswith(("['", '["', "[{'", "{'")):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return value


def _repair(task: Task) -> ReadTask:
    r"""The task with `\boxed` as it was meant."""
    if not any(_DAMAGED_BOX in message.content for message in task.messages):
        return ReadTask(task, was_repaired=False)
    messages = tuple(Message(role=m.role, content=m.content.replace(_DAMAGED_BOX, _BOX)) for m in task.messages)
    return ReadTask(dataclasses.replace(task, messages=messages), was_repaired=True)


def _jsonable(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The row's other values, as JSON; None is skipped, dates and the like become text."""
    return {str(key): _to_json(value) for key, value in extra.items() if value is not None}


def _to_json(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(entry) for key, entry in cast(Mapping[Any, object], value).items()}
    if isinstance(value, list | tuple):
        return [_to_json(entry) for entry in cast(list[object], value)]
    is_plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else str(value)
