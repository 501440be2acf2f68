"""Rows of data files: all in order, or one by its offset. Only a JSON array is held in memory.

A file format is a class with two methods: `scan` yields the rows from a position on, each with its offset; `read` returns the
row at an offset. `scan` yields a BadRowError for a row that cannot be read; a file that cannot be read is a DataError.
"""

import codecs
import gzip
import itertools
import json
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from arpo.errors import DataError
from arpo.files.lfs import is_lfs_pointer

MAX_ROW_BYTES = 64 * 2**20
"""A longer line of a JSONL file is a bad row."""
_CACHED_BYTES = 256 * 2**20
"""Most bytes of decoded row groups that a parquet file caches; the last one is always cached."""
_BATCH_ROWS = 64
_ARROW_FAULTS = (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError)


class BadRowError(ValueError):
    """A row cannot be used, and why; readers turn it into a BadRow."""


class Position(NamedTuple):
    """A position between two rows of a file."""

    offset: int
    """Offset of the next row."""
    number: int
    """Rows before it; in a JSONL file the lines."""


START = Position(0, 0)


class ScannedRow(NamedTuple):
    """A row and its position."""

    number: int
    """Counted from 1; in a JSONL file the line."""
    offset: int
    """Argument of `read`: bytes before it in a JSONL file, else rows before it."""
    value: dict[str, Any] | BadRowError
    next_offset: int
    """Place of the row after it."""

    @property
    def end(self) -> Position:
        """The position after it, from which `scan` yields the next row."""
        return Position(self.next_offset, self.number)


class RowFile(ABC):
    """One file of rows."""

    def __init__(self, path: Path):
        """A file that exists; raises DataError where it is a Git LFS pointer."""
        self.path = path
        self._fingerprint = _fingerprint(path)
        if is_lfs_pointer(path):
            raise DataError(f"{path}: a Git LFS pointer, not the data it stands for; run `git lfs pull` in its repository")

    @abstractmethod
    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order.

        Raises:
            DataError: the file cannot be read, or only as far as the rows yielded.
        """

    def read(self, offset: int) -> dict[str, Any]:
        """The row at an offset that `scan` gave.

        Raises:
            DataError: the file has changed since this object was made.
        """
        if _fingerprint(self.path) != self._fingerprint:
            raise DataError(f"{self.path}: it was changed or removed while it was in use; restore it and start again")
        row = self._read(offset)
        if isinstance(row, BadRowError):
            raise DataError(f"{self.path}: the row at {offset} can no longer be read ({row})")
        return row

    def _read(self, offset: int) -> dict[str, Any] | BadRowError:
        return next(self.scan(Position(offset, offset))).value

    def _unreadable(self, kind: str, error: BaseException) -> DataError:
        return DataError(f"{self.path}: not {kind} that can be read ({shorten(error)})")


class JsonLinesFile(RowFile):
    """One JSON object per line, UTF-8; blank lines are skipped."""

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        offset, number = start
        try:
            with self._open() as stream:
                stream.seek(offset)
                while True:
                    line, length = _read_line(stream)
                    if not length:
                        return
                    number += 1
                    if isinstance(line, BadRowError) or line.strip():
                        yield ScannedRow(number, offset, _parse(line), offset + length)
                    offset += length
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path}: cannot be read beyond row {number} ({error})") from error

    def _open(self) -> BinaryIO:
        return self.path.open("rb")


class GzipJsonLinesFile(JsonLinesFile):
    """A gzipped JSONL file. Offsets count bytes of the unpacked text; to reach one, the file is unpacked from its start."""

    def _open(self) -> BinaryIO:
        return cast(BinaryIO, gzip.open(self.path, "rb"))


class JsonFile(RowFile):
    """A JSON array of objects, as in ShareGPT's files; the only format that is read into memory whole."""

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        return _number(map(_require_object, self._rows[start.offset :]), start.offset)

    @cached_property
    def _rows(self) -> list[Any]:
        try:
            rows = _load(data := self.path.read_bytes())
        except (OSError, BadRowError) as error:
            if not isinstance(error, OSError) and isinstance(_parse(data.strip().partition(b"\n")[0]), dict):
                raise DataError(f"{self.path}: JSON Lines, one object a line, not a JSON array; rename it to .jsonl") from error
            raise self._unreadable("a JSON array", error) from error
        if not isinstance(rows, list):
            raise DataError(f"{self.path}: not a JSON array of objects; give one, or a .jsonl file with one object a line")
        return cast(list[Any], rows)

    def _read(self, offset: int) -> dict[str, Any] | BadRowError:
        return _require_object(self._rows[offset])


class ParquetFile(RowFile):
    """A parquet file, read row group by row group."""

    def __init__(self, path: Path, keys: Sequence[str] | None = None):
        """A file that exists; `keys`: the columns to read, None: all."""
        super().__init__(path)
        self._keys = keys
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()

    @property
    def columns(self) -> list[str]:
        """The names of all its columns."""
        with self._open() as file:
            return file.schema_arrow.names

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        first = max(bisect_right(self._first_rows, start.offset) - 1, 0)
        with self._open() as file:
            try:  # group by group: a reader of all groups keeps what it has read
                for group, first_row in enumerate(self._first_rows[first:], start=first):
                    batches = file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=self._keys, use_threads=False)
                    rows = _convert_all(batches, skip=max(start.offset - first_row, 0))
                    yield from _number(rows, max(start.offset, first_row))
            except _ARROW_FAULTS as error:
                raise self._unreadable("a parquet file", error) from error

    def _read(self, offset: int) -> dict[str, Any] | BadRowError:
        group = bisect_right(self._first_rows, offset) - 1
        return _convert(self._group(group), offset - self._first_rows[group])

    @cached_property
    def _first_rows(self) -> list[int]:
        """The rows before each row group."""
        with self._open() as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        return [0, *itertools.accumulate(sizes)][: len(sizes)]

    def _group(self, index: int) -> pa.Table:
        if index not in self._groups:
            with self._open() as file:
                self._groups[index] = file.read_row_group(index, columns=self._keys, use_threads=False)
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > _CACHED_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(index)
        return self._groups[index]

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path, buffer_size=2**20)
        except _ARROW_FAULTS as error:
            raise self._unreadable("a parquet file", error) from error


class ArrowFile(RowFile):
    """An Arrow IPC stream, as `datasets.save_to_disk` writes it, or an Arrow IPC file; mapped into memory, not read."""

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        try:
            yield from _number(_convert_all(self._table.slice(start.offset).to_batches(_BATCH_ROWS)), start.offset)
        except _ARROW_FAULTS as error:
            raise self._unreadable("an Arrow file", error) from error

    @cached_property
    def _table(self) -> pa.Table:
        try:
            source = pa.memory_map(str(self.path))
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            table = reader.read_all()
            table.validate(full=True)
            return table
        except _ARROW_FAULTS as error:
            raise self._unreadable("an Arrow file", error) from error

    def _read(self, offset: int) -> dict[str, Any] | BadRowError:
        return _convert(self._table, offset)


FORMATS: dict[str, type[RowFile]] = {
    ".parquet": ParquetFile, ".jsonl": JsonLinesFile, ".arrow": ArrowFile, ".json": JsonFile,
}  # fmt: skip
"""File name ending -> reader."""


def shorten(value: object) -> str:
    """The repr of a value, or the text of an error, as `cut` shortens it for a message."""
    return cut(str(value) if isinstance(value, Exception) else repr(value))


def cut(text: str) -> str:
    """A text on one line; of more than 200 characters, the first and last 100."""
    text = text.replace("\n", " ")
    return text if len(text) <= 200 else f"{text[:100]} … {text[-100:]}"


def _fingerprint(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _read_line(stream: BinaryIO) -> tuple[bytes | BadRowError, int]:
    """The next line or its error, and its length in bytes; 0 at the end."""
    line = stream.readline(MAX_ROW_BYTES)
    length = len(line)
    if length < MAX_ROW_BYTES or line.endswith(b"\n"):
        return line, length
    while rest := stream.readline(2**20):
        length += len(rest)
        if rest.endswith(b"\n"):
            break
    return BadRowError(f"a line of {length} bytes; the most is {MAX_ROW_BYTES}"), length


def _parse(line: bytes | BadRowError) -> dict[str, Any] | BadRowError:
    try:
        return line if isinstance(line, BadRowError) else _require_object(_load(line))
    except BadRowError as error:
        return error


def _require_object(row: Any) -> dict[str, Any] | BadRowError:
    return cast(dict[str, Any], row) if isinstance(row, dict) else BadRowError("no JSON object")


def _load(data: bytes) -> Any:
    """The value of UTF-8 JSON; raises BadRowError where it is none."""
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError(f"no UTF-8 text ({error.reason} at byte {error.start + 1})") from error
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRowError("half a surrogate pair (\\ud800 to \\udfff), which is no character") from error
    except ValueError as error:
        raise BadRowError(f"no JSON ({error})") from error
    except RecursionError as error:
        raise BadRowError("no JSON that can be read (nested too deeply)") from error
    return value


def _number(rows: Iterable[dict[str, Any] | BadRowError], first: int) -> Iterator[ScannedRow]:
    """Rows whose offset is the number of rows before them; that of the first is `first`."""
    return (ScannedRow(index + 1, index, row, index + 1) for index, row in enumerate(rows, start=first))


def _convert_all(batches: Iterable[pa.RecordBatch], skip: int = 0) -> Iterator[dict[str, Any] | BadRowError]:
    """The rows of batches without the first `skip`."""
    for batch in batches:
        remaining = batch.slice(min(skip, batch.num_rows))
        skip = max(skip - batch.num_rows, 0)
        try:
            rows = remaining.to_pylist()
        except _ARROW_FAULTS:  # one bad row spoils a batch
            rows = [_convert(remaining, i) for i in range(remaining.num_rows)]
        yield from rows


def _convert(rows: pa.Table | pa.RecordBatch, index: int) -> dict[str, Any] | BadRowError:
    try:
        return rows.slice(index, 1).to_pylist()[0]
    except _ARROW_FAULTS as error:
        return BadRowError(f"values that cannot be read ({shorten(error)})")
