"""Writes any source of tasks in the public RL schema, and any of conversations as OpenAI messages."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from arpo.data.conversations import conversation_row, holds_conversations, scan_conversations
from arpo.data.overlap import OverlapIndex
from arpo.data.tasks import scan_tasks
from arpo.errors import DataError
from arpo.files.rows import cut, shorten
from arpo.files.sources import BadRow, ParsedRow, Source, no_rows, open_source
from arpo.files.whole import whole
from arpo.types import Task

ROW_GROUP_ROWS = 1000
"""Rows per row group of a parquet file; reading one task of a shuffled order decodes a row group."""
_REWARD = "reward_model."


@dataclass(slots=True, frozen=True, kw_only=True)
class Converted:
    """Rows that `convert_data` wrote and dropped."""

    num_rows: int
    """Rows read."""
    num_written: int
    dropped: list[BadRow]
    """Rows not written, in order, each with its reason."""


def convert_data(path: Path, out: Path, without: OverlapIndex | None = None) -> Converted:
    """Read a source and write its usable rows to `out`, whole or not at all.

    Tasks are written as `{data_source, prompt, ability, reward_model: {ground_truth, ...}, extra_info: {...}}`, where
    `ground_truth` is a text when every task of the source has one reference, else a list of texts. Reading `out` gives the same
    tasks with other ids, which name file and row. Conversations are written as `{messages}`.

    Args:
        path: As `arpo.files.sources` takes it; read twice for parquet, first for the types.
        out: A `.parquet` or `.jsonl` file.
        without: Questions that are dropped, with their near-duplicates; None drops none.

    Raises:
        DataError: the source cannot be read or has no usable row; `out` is of another kind; or extra values fit no parquet
            column (write JSONL then).
    """
    if out.suffix not in (".parquet", ".jsonl"):
        raise DataError(f"{out}: cannot write files of kind {out.suffix or '(none)'!r}; name a .parquet or .jsonl file")
    source = open_source(path)
    rows = _Rows(source, without)
    with whole(out) as partial:
        if out.suffix == ".jsonl":
            _write_jsonl(rows, partial)
        else:
            _write_parquet(rows, partial, out)
        if not rows.num_written:
            raise no_rows(path, "row to write", rows.dropped)
    return Converted(num_rows=rows.num_written + len(rows.dropped), num_written=rows.num_written, dropped=rows.dropped)


class _Rows:
    """The rows to write. Each iteration reads the source anew and counts."""

    def __init__(self, source: Source, without: OverlapIndex | None):
        self._source = source
        self._without = without
        self._is_conversations = holds_conversations(source)
        self._has_lists = not self._is_conversations and any(
            len(row.value.task.references) > 1 for row in scan_tasks(source, lambda _: None)
        )
        self.num_written = 0
        self.dropped: list[BadRow] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.num_written, self.dropped = 0, []
        for source_row, question, row in self._read():
            overlap = self._without.find(question) if self._without is not None else None
            if overlap is not None:
                reason = f"its question overlaps {overlap.containment:.0%} with {overlap.path}, row {overlap.row}"
                self.dropped.append(BadRow(source_row.path, source_row.row.number, reason))
            else:
                self.num_written += 1
                yield row

    def _read(self) -> Iterator[tuple[ParsedRow[Any], str, dict[str, Any]]]:
        """Each usable row with its question and how it is written."""
        if self._is_conversations:
            for row in scan_conversations(self._source, self.dropped.append):
                yield row, row.value.task_messages[-1].content, conversation_row(row.value)
        else:
            for row in scan_tasks(self._source, self.dropped.append):
                yield row, row.value.task.question, task_row(row.value.task, as_list=self._has_lists)


def task_row(task: Task, *, as_list: bool) -> dict[str, Any]:
    """A task as a row of the public RL schema; with `as_list` its references as a list, else the only one as a text."""
    reward_model: dict[str, Any] = {"ground_truth": list(task.references) if as_list else task.references[0]}
    extra_info: dict[str, Any] = {}
    for key, value in task.extra.items():
        name = key.removeprefix(_REWARD)
        if key != name and name != "ground_truth":
            reward_model[name] = value
        else:
            extra_info[key] = value
    return {
        "data_source": task.source,
        "prompt": [{"role": message.role, "content": message.content} for message in task.messages],
        "ability": task.ability,
        "reward_model": reward_model,
        "extra_info": extra_info or None,
    }


def _write_jsonl(rows: Iterable[Mapping[str, Any]], partial: Path) -> None:
    with partial.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(rows: _Rows, partial: Path, out: Path) -> None:
    schema = _find_schema(rows, out)
    if schema is None:
        return
    with _explained(out):
        writer = pq.ParquetWriter(partial, schema)
    with writer:
        for chunk in _chunks(rows):
            with _explained(out):
                table = pa.Table.from_pylist(chunk, schema=schema)
            for row, back in zip(chunk, table.to_pylist(), strict=True):
                _check_same(row, back, out)
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def _find_schema(rows: _Rows, out: Path) -> pa.Schema | None:
    """The types of all rows; None without rows."""
    schema: pa.Schema | None = None
    for chunk in _chunks(rows):
        with _explained(out):
            of_chunk = pa.Table.from_pylist(chunk).schema
            schema = pa.unify_schemas([schema or of_chunk, of_chunk], promote_options="permissive")
    return schema


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise _no_parquet(out, shorten(error)) from error


def _no_parquet(out: Path, why: str) -> DataError:
    return DataError(f"{out}: the values of one key differ too much for a parquet column ({why}); write a .jsonl file instead")


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, ROW_GROUP_ROWS)):
        yield chunk


def _check_same(row: Mapping[str, Any], back: Mapping[str, Any], out: Path) -> None:
    """Compare as JSON, where 1 and 1.0 differ; None on the two upper levels counts as absent, as for readers."""
    for key, value in row.items():
        before, after = (json.dumps(_without_none(v), sort_keys=True, ensure_ascii=False) for v in (value, back[key]))
        if before != after:
            raise _no_parquet(out, f"{key}: {cut(before)} would come back as {cut(after)}")


def _without_none(value: Any) -> Any:
    if isinstance(value, list):  # of messages, most of which lack keys that some have
        return [_without_none(entry) if isinstance(entry, dict) else entry for entry in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    return {key: entry for key, entry in cast(dict[str, Any], value).items() if entry is not None} or None
