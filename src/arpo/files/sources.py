"""Where rows come from: a file, a folder as Hugging Face `datasets` or the hub keep them, or a data set of the hub by name.

A folder is one table: the arrow shards of `datasets.save_to_disk`, or one file, or the shards of one, e.g.
`train-00000-of-00002.parquet` and `train-00001-of-00002.parquet`. The common part `folder/train` names the shards too. A folder
with several tables is an error that lists them: nobody trains on a test split by accident.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from arpo.errors import DataError
from arpo.files.rows import FORMATS, BadRowError, RowFile, ScannedRow

HUB = ("hf:", "datasets")
"""First parts of the name of a hub data set: `hf://datasets/OWNER/NAME[@REVISION][/PATH]`, as pandas and polars write it."""
_SHARD = re.compile(r"(?P<name>.+?)-(?P<index>\d{5,})-of-(?P<count>\d{5,})(-[0-9a-f]+)?")
_NO_DATA = ("dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json")
_MAX_NAMED = 8
T = TypeVar("T")


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
class ParsedRow(Generic[T]):
    """A row that could be used."""

    value: T
    """Its content, parsed."""
    path: Path
    """Its file."""
    file: int
    """Index of its file in the source."""
    number: int
    """Counted from 1 through all files of the source."""
    row: ScannedRow
    """The row in its own file."""


@dataclass(slots=True, frozen=True)
class Source:
    """The files of one table, in order."""

    name: str
    """Stem of the file, or name of the folder, the shards or the data set."""
    files: tuple[RowFile, ...]

    def scan(self) -> Iterator[ScannedRow]:
        """Every row in order.

        Raises:
            DataError: a file cannot be read.
        """
        for file in self.files:
            yield from file.scan()

    def parse(
        self, parse: Callable[[dict[str, Any], int], T], on_bad_row: Callable[[BadRow], object]
    ) -> Iterator[ParsedRow[T]]:
        """Every row that `parse` accepts, in order.

        Args:
            parse: Gets a row and its number, counted from 1 through all files; raises BadRowError for a row it cannot use.
            on_bad_row: Gets each row that cannot be read or used.

        Raises:
            DataError: a file cannot be read.
        """
        num_before = number = 0
        for index, file in enumerate(self.files):
            for row in file.scan():
                number = num_before + row.number
                try:
                    if isinstance(row.value, BadRowError):
                        raise row.value
                    value = parse(row.value, number)
                except BadRowError as error:
                    on_bad_row(BadRow(file.path, row.number, str(error)))
                else:
                    yield ParsedRow(value, file.path, index, number, row)
            num_before = number


def no_rows(path: Path, wanted: str, bad_rows: Sequence[BadRow]) -> DataError:
    """The error of a source without one row that can be used; `wanted`: what the rows should be."""
    reasons = "; ".join(str(bad) for bad in bad_rows[:3]) or "it has no rows"
    return DataError(f"{path}: no {wanted} ({reasons})")


def open_source(path: Path) -> Source:
    """The files that a path names.

    Raises:
        DataError: the path names no table or several, a shard is missing, the kind of file is unknown, or the hub cannot be
            reached.

    Example:
        open_source(Path("hf://datasets/owner/name/data/train")).files  # the shards data/train-*-of-*.parquet of the hub
    """
    name = path.stem if path.suffix in FORMATS else path.name.partition("@")[0]
    if path.parts[:2] == HUB:
        from arpo.files.hub import fetch_dataset

        path = fetch_dataset(path)
    if path.is_file():
        if path.suffix not in FORMATS:
            raise DataError(f"{path}: files of kind {path.suffix or '(none)'!r} cannot be read; give {_ACCEPTED}")
        return Source(name, (FORMATS[path.suffix](path),))
    tables = _find_tables(path) if path.is_dir() else _shards_named(path)
    if not tables and path.is_dir():
        raise DataError(f"{path}: no file of {', '.join(FORMATS)} in this folder or below")
    if not tables:
        raise DataError(f"{path}: no such file or folder; give {_ACCEPTED}")
    if len(tables) > 1:
        names = [str(table) for table in list(tables)[:_MAX_NAMED]] + ["…"] * (len(tables) > _MAX_NAMED)
        raise DataError(f"{path}: this folder holds several tables; name one of them: {', '.join(names)}")
    ((table, files),) = tables.items()
    _check_shards(table, files)
    return Source(name, tuple(FORMATS[file.suffix](file) for file in files))


_ACCEPTED = f"a file of {', '.join(FORMATS)}, a folder of such files, or hf://datasets/OWNER/NAME"


def _find_tables(folder: Path) -> dict[Path, list[Path]]:
    """Name of each table of a folder -> its files in order."""
    if (folder / "dataset_dict.json").is_file():
        splits = [split for split in sorted(folder.iterdir()) if (split / "state.json").is_file()]
        return {split: _saved_files(split) for split in splits}
    if (folder / "state.json").is_file():
        return {folder: _saved_files(folder)}
    tables: dict[Path, list[Path]] = {}
    for file in sorted(p for p in folder.rglob("*") if p.suffix in FORMATS and p.name not in _NO_DATA and p.is_file()):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            tables.setdefault(_table_of(file), []).append(file)
    return tables


def _shards_named(path: Path) -> dict[Path, list[Path]]:
    """The shards whose common name is `path`."""
    shards = sorted(p for p in path.parent.glob("*-of-*") if p.suffix in FORMATS and _table_of(p) == path and p.is_file())
    return {path: shards} if shards else {}


def _table_of(file: Path) -> Path:
    shard = _SHARD.fullmatch(file.stem)
    return file.with_name(shard["name"]) if shard else file


def _check_shards(table: Path, files: list[Path]) -> None:
    for index, file in enumerate(files):
        shard = _SHARD.fullmatch(file.stem)
        if shard and (int(shard["index"]), int(shard["count"])) != (index, len(files)):
            raise DataError(
                f"{table}: the folder holds {len(files)} of its {int(shard['count'])} shards, {file.name} as number "
                f"{index + 1}; add the missing ones"
            )


def _saved_files(folder: Path) -> list[Path]:
    """The files that `datasets.save_to_disk` lists in the folder's state.json."""
    state = folder / "state.json"
    try:
        files = [folder / entry["filename"] for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{state}: not what datasets.save_to_disk writes ({type(error).__name__}: {error})") from error
    for file in files:
        if file.parent != folder or file.suffix != ".arrow" or not file.is_file():
            raise DataError(f"{state}: names {file.name!r}, which is no .arrow file of this folder")
    return files
