"""Reads the file of a benchmark; another file is an error."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from arpo.data.benchmarks.forms import TYPE_NAMES, Benchmark, FieldType, Row, RowForm
from arpo.data.benchmarks.table import BENCHMARKS
from arpo.data.tasks import TaskFile
from arpo.errors import ConfigError, DataError
from arpo.files.rows import BadRowError
from arpo.files.sources import BadRow, open_source
from arpo.types import Message, Task

GROUP = "group"
"""The key of `Task.extra` that holds a question's group: its level, category, type ..., as text."""
_BOX = re.compile(r"\\boxed\s*\{|\\fbox\s*\{")
_SHOWN_CHARS = 80


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        ConfigError: there is none; the message has the nearest name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    near = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"benchmark = {name!r}: use one of {', '.join(BENCHMARKS)}{hint}")


def read_benchmark(name: str, path: Path) -> TaskFile:
    """The questions of a benchmark's file (`.jsonl` or `.parquet`), in the form of the papers' code or of the hub's original.

    Task ids are `<benchmark>-<row>`, rows counted from 1, whatever the file is called; `source` is the benchmark's name and
    `ability` its domain. `extra["group"]` has the group where the file has one, as text; the row's other plain values are
    in `extra` too, lists and structs (paragraphs, annotations) are not.

    Rows that fit but cannot be asked (GAIA with a file, HLE with an image, unanswerable ones of MuSiQue-Full) are skipped and
    listed in `bad_rows`. A row that does not fit is an error: the file is another one.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: the file cannot be read, or a row does not fit; the message has file, row, field and value.

    Example:
        read_benchmark("gaia", Path("gaia/test.jsonl")).tasks[0].extra["group"]  # -> "1", its level
    """
    benchmark = find_benchmark(name)
    tasks: list[Task] = []
    skipped: list[BadRow] = []
    form: RowForm | None = None
    for scanned in open_source(path).scan():
        number = scanned.number
        try:
            if isinstance(scanned.value, BadRowError):
                raise scanned.value
            row = _lower_names(scanned.value)
            form = form or _find_form(benchmark, row)
            _check_fields(form, row)
            if form.decode:
                row = form.decode(row)
                _check_fields(form, row)
            reason = form.screen(row) if form.screen else ""
            if reason:
                skipped.append(BadRow(path, number, reason))
            else:
                tasks.append(_read_task(benchmark, form, row, number))
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {error}; this is no file of {benchmark.title}") from None
    if not tasks:
        raise DataError(f"{path}: no question of {benchmark.title} ({skipped[0] if skipped else 'it has no rows'})")
    return TaskFile(tasks, skipped)


def _find_form(benchmark: Benchmark, row: Row) -> RowForm:
    """The form of a file's first row; where only the fields fit and not their types, that form, for the error to name."""
    named = [form for form in benchmark.forms if all(_has(row, field) for field in form.fields)]
    if not named:
        forms = " or ".join(f"{', '.join(form.fields)} ({form.name})" for form in benchmark.forms)
        raise BadRowError(f"its fields are {', '.join(sorted(row))}; wanted are {forms}")
    return next((form for form in named if not any(_faults(form, row))), named[0])


def _check_fields(form: RowForm, row: Row) -> None:
    for fault in _faults(form, row):
        raise BadRowError(fault)


def _faults(form: RowForm, row: Row) -> Iterator[str]:
    for field, kind in form.fields.items():
        value = _get(row, field)
        if not _IS_OF_TYPE[kind](value):
            shown = "missing" if not _has(row, field) else f"{_show(value)}, a {type(value).__name__}"
            yield f"{field} must be {TYPE_NAMES[kind]}; it is {shown}"


def _read_task(benchmark: Benchmark, form: RowForm, row: Row, number: int) -> Task:
    aliases = cast(Iterable[object], _get(row, form.aliases) or ()) if form.aliases else ()
    answers = [*_read_answers(form, row), *(str(alias).strip() for alias in aliases)]
    extra = {key: value for key, value in row.items() if isinstance(value, str | int | float | bool)}
    group = _read_group(form, row)
    if group:
        extra[GROUP] = group
    return Task(
        id=f"{benchmark.name}-{number}",
        messages=(Message(role="user", content=_get(row, form.question)),),
        references=tuple(dict.fromkeys(answer for answer in answers if answer)),
        source=benchmark.name,
        ability=benchmark.domain,
        extra=extra,
    )


def _read_answers(form: RowForm, row: Row) -> list[str]:
    value = _get(row, form.answer)
    if form.fields[form.answer] == "integer":
        return [str(int(value))]
    if isinstance(value, list):
        return [str(text).strip() for text in cast(list[object], value)]
    text = str(value).strip()
    if form.reading == "after_hashes":
        _, hashes, text = text.rpartition("#### ")
        if not hashes or not text.strip():
            raise BadRowError(f"{form.answer} = {_show(value)} does not end with `#### ` and the answer")
        return [text.strip()]
    return [_last_box(text, form.answer)] if form.reading == "last_box" else [text]


def _last_box(solution: str, field: str) -> str:
    r"""The content of the last `\boxed{...}` of a solution; some solutions of MATH write `\boxed 5`."""
    starts = [match.end() for match in _BOX.finditer(solution)]
    if not starts:
        bare = re.findall(r"\\boxed\s+([^\s$.]+)", solution)
        if bare:
            return bare[-1]
        raise BadRowError(f"{field} = {_show(solution)} holds no \\boxed answer")
    depth = 1
    for token in re.finditer(r"\\.|[{}]", solution[starts[-1] :], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return solution[starts[-1] : starts[-1] + token.start()].strip()
    raise BadRowError(f"{field} = {_show(solution)} holds a \\boxed answer whose braces do not close")


def _read_group(form: RowForm, row: Row) -> str:
    if form.group is None:
        return ""
    value = str(_get(row, form.group))
    match = re.search(form.group_pattern, value)
    if match is None:
        raise BadRowError(f"{form.group} = {_show(value)} does not name the question's group")
    return match[1].strip()


def _lower_names(row: Row) -> dict[str, Any]:
    """The row with field names in lower case: copies of one data set differ in case."""
    return {
        name.lower(): _lower_names(cast(Row, value)) if isinstance(value, Mapping) else value for name, value in row.items()
    }


def _has(row: Row, field: str) -> bool:
    return _get(row, field, missing := object()) is not missing


def _get(row: Row, field: str, default: Any = None) -> Any:
    """A field's value; a dot reaches into a struct."""
    first, _, rest = field.partition(".")
    if first not in row:
        return default
    if not rest:
        return row[first]
    return _get(cast(Row, row[first]), rest, default) if isinstance(row[first], Mapping) else default


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: object) -> bool:
    if not isinstance(value, list):
        return False
    texts = cast(list[object], value)
    return all(isinstance(text, str) for text in texts) and any(_is_text(text) for text in texts)


def _is_integer(value: object) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number or (isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value, re.ASCII) is not None)


def _is_number(value: object) -> bool:
    return _is_text(value) or (isinstance(value, int | float) and not isinstance(value, bool))


_IS_OF_TYPE: dict[FieldType, Callable[[object], bool]] = {
    "text": _is_text,
    "texts": _is_texts,
    "integer": _is_integer,
    "number": _is_number,
    "flag": lambda value: isinstance(value, bool),
}
