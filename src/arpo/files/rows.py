"""Rows of data files, one after the other or any one by its place; no file is held in memory but a JSON array.

A file format is a class with two ways in: `scan` yields the rows from a position on, each with its place; `read` takes one row
from its place. A row that cannot be read is yielded as the error it is; an error of the file itself is a DataError.
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

MAX_ROW_BYTES = 64 * 2**20
"""A longer line of a JSONL file is a bad row."""
_CACHED_BYTES = 256 * 2**20
"""Decoded row groups of a parquet file that are kept for the next row; the last one always is."""
_BATCH_ROWS = 64
_ARROW_FAULTS = (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError)


class BadRowError(ValueError):
    """Why a row cannot be used; readers turn it into a BadRow."""


class Position(NamedTuple):
    """Where a file has been read to: between two rows."""

    place: int
    """Place of the next row."""
    number: int
    """Rows before it; in a JSONL file the lines."""


START = Position(0, 0)


class ScannedRow(NamedTuple):
    """A row and where it stands."""

    number: int
    """Counted from 1; in a JSONL file the line."""
    place: int
    """What `read` takes: a byte offset in a JSONL file, else the rows before it."""
    value: dict[str, Any] | BadRowError
    next_place: int
    """Place of the row after it."""

    @property
    def end(self) -> Position:
        """The position behind it: `scan` goes on from there with the next row."""
        return Position(self.next_place, self.number)


class RowFile(ABC):
    """One file of rows."""

    def __init__(self, path: Path):
        """A file that exists."""
        self.path = path
        self._state = _state(path)

    @abstractmethod
    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order.

        Raises:
            DataError: the file cannot be read, or not further than the rows yielded.
        """

    def read(self, place: int) -> dict[str, Any]:
        """The row at a place that `scan` gave.

        Raises:
            DataError: the file is another one than it was when this object was made.
        """
        if _state(self.path) != self._state:
            raise DataError(f"{self.path}: it was changed or removed while it was in use; give it back and start again")
        row = self._read(place)
        if isinstance(row, BadRowError):
            raise DataError(f"{self.path}: the row at {place} can no longer be read ({row})")
        return row

    @abstractmethod
    def _read(self, place: int) -> dict[str, Any] | BadRowError: ...

    def _unreadable(self, kind: str, error: BaseException) -> DataError:
        return DataError(f"{self.path}: not {kind} that can be read ({shorten(error)})")


class JsonLinesFile(RowFile):
    """A JSON object a line, UTF-8; blank lines are passed over."""

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        place, number = start
        try:
            with self._open() as stream:
                stream.seek(place)
                while True:
                    line, length = _read_line(stream)
                    if not length:
                        return
                    number += 1
                    if isinstance(line, BadRowError) or line.strip():
                        yield ScannedRow(number, place, _parse(line), place + length)
                    place += length
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path}: cannot be read beyond row {number} ({error})") from error

    def _open(self) -> BinaryIO:
        return self.path.open("rb")

    def _read(self, place: int) -> dict[str, Any] | BadRowError:
        with self._open() as stream:
            stream.seek(place)
            return _parse(_read_line(stream)[0])


class GzipJsonLinesFile(JsonLinesFile):
    """A gzipped JSONL file, whose places are byte offsets in the text; it is unpacked from its beginning to reach one."""

    def _open(self) -> BinaryIO:
        return cast(BinaryIO, gzip.open(self.path, "rb"))


class JsonFile(RowFile):
    """A JSON array of objects, as ShareGPT's files are; the one format that is read into memory whole."""

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        return _number(map(_require_object, self._rows[start.place :]), start.place)

    @cached_property
    def _rows(self) -> list[Any]:
        try:
            rows = _load(self.path.read_bytes())
        except (OSError, BadRowError) as error:
            raise self._unreadable("a JSON array", error) from error
        if not isinstance(rows, list):
            raise DataError(f"{self.path}: not a JSON array of objects; give one, or a .jsonl file with one object a line")
        return cast(list[Any], rows)

    def _read(self, place: int) -> dict[str, Any] | BadRowError:
        return _require_object(self._rows[place])


class ParquetFile(RowFile):
    """A parquet file, read row group by row group."""

    def __init__(self, path: Path, keys: Sequence[str] | None = None):
        """A file that exists; of its columns those named in `keys` are read, None: all."""
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
        first = max(bisect_right(self._first_rows, start.place) - 1, 0)
        with self._open() as file:
            try:  # group by group, as a reader of them all keeps what it has read
                for group, place in enumerate(self._first_rows[first:], start=first):
                    batches = file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=self._keys, use_threads=False)
                    rows = _convert_all(batches, skip=max(start.place - place, 0))
                    yield from _number(rows, max(start.place, place))
            except _ARROW_FAULTS as error:
                raise self._unreadable("a parquet file", error) from error

    def _read(self, place: int) -> dict[str, Any] | BadRowError:
        group = bisect_right(self._first_rows, place) - 1
        return _convert(self._group(group), place - self._first_rows[group])

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
    """An Arrow IPC stream, as `datasets.save_to_disk` writes it, or an Arrow IPC file; mapped into memory, not read into it."""

    def scan(self, start: Position = START) -> Iterator[ScannedRow]:
        """The rows from `start` on, in order."""
        try:
            yield from _number(_convert_all(self._table.slice(start.place).to_batches(_BATCH_ROWS)), start.place)
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

    def _read(self, place: int) -> dict[str, Any] | BadRowError:
        return _convert(self._table, place)


FORMATS: dict[str, type[RowFile]] = {
    ".parquet": ParquetFile, ".jsonl": JsonLinesFile, ".arrow": ArrowFile, ".json": JsonFile,
}  # fmt: skip
"""Ending of a file's name -> how it is read."""


def shorten(value: object) -> str:
    """A value as it is written in Python, an error's words, for a message: see `cut`."""
    return cut(str(value) if isinstance(value, Exception) else repr(value))


def cut(text: str) -> str:
    """A text on one line, without its middle where it is longer than 200 characters."""
    text = text.replace("\n", " ")
    return text if len(text) <= 200 else f"{text[:100]} … {text[-100:]}"


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _read_line(stream: BinaryIO) -> tuple[bytes | BadRowError, int]:
    """The next line, or why it is none, and its length in bytes; 0 at the end."""
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
    """What UTF-8 text says as JSON; a BadRowError says why it is none."""
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
    """Rows whose places are the rows before them, of which the first has `first`."""
    return (ScannedRow(place + 1, place, row, place + 1) for place, row in enumerate(rows, start=first))


def _convert_all(batches: Iterable[pa.RecordBatch], skip: int = 0) -> Iterator[dict[str, Any] | BadRowError]:
    """The rows of batches without the first `skip`."""
    for batch in batches:
        kept = batch.slice(min(skip, batch.num_rows))
        skip = max(skip - batch.num_rows, 0)
        try:
            rows = kept.to_pylist()
        except _ARROW_FAULTS:  # one row is enough to spoil a batch
            rows = [_convert(kept, i) for i in range(kept.num_rows)]
        yield from rows


def _convert(rows: pa.Table | pa.RecordBatch, index: int) -> dict[str, Any] | BadRowError:
    try:
        return rows.slice(index, 1).to_pylist()[0]
    except _ARROW_FAULTS as error:
        return BadRowError(f"values that cannot be read ({shorten(error)})")
