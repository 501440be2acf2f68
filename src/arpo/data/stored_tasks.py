"""Tasks that stay on disk: for files larger than memory."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import overload

from arpo.data.tasks import ReadTask, check_tasks, scan_tasks, to_task
from arpo.files.sources import BadRow, Source, open_source
from arpo.types import Task


@dataclass(slots=True, frozen=True)
class StoredTaskFile:
    """The tasks of a source, on disk."""

    tasks: "StoredTasks"
    bad_rows: list[BadRow]
    """Rows that were left out, in order; for the caller to report."""


def open_tasks(path: Path) -> StoredTaskFile:
    """As `read_tasks`, but its tasks are read from disk when they are asked for.

    Every row is read once here, so bad rows are known before the first task is used. What is kept is 20 bytes per task and, of
    a parquet file, the row groups used last. `arpo data convert` writes small ones, so that any order is cheap to read.

    Raises:
        DataError: as `read_tasks`.
    """
    source = open_source(path)
    tasks = StoredTasks(source)
    bad_rows: list[BadRow] = []
    num_repaired = 0
    for found in scan_tasks(source):
        if isinstance(found, BadRow):
            bad_rows.append(found)
        else:
            tasks.add(found)
            num_repaired += found.was_repaired
    check_tasks(path, len(tasks), num_repaired, bad_rows)
    return StoredTaskFile(tasks, bad_rows)


class StoredTasks(Sequence[Task]):
    """The places of tasks in their files; indexing reads one.

    Raises:
        DataError: on indexing, when a file was changed since it was opened.
    """

    def __init__(self, source: Source):
        """No tasks yet; `add` those that `scan_tasks` finds in `source`."""
        self._source = source
        self._files = array("i")
        self._places = array("q")
        self._numbers = array("q")
        self._digest = blake2b(digest_size=16)

    def add(self, found: ReadTask) -> None:
        """Remember where a task stands."""
        self._files.append(found.file)
        self._places.append(found.row.place)
        self._numbers.append(found.number)
        task = found.task
        self._digest.update(repr((task.id, [(m.role, m.content) for m in task.messages], task.references)).encode())

    @property
    def digest(self) -> str:
        """Hexadecimal digest of ids, prompts and references in their order; a position in other tasks means something else."""
        return self._digest.hexdigest()

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._source.files[self._files[index]].read(self._places[index])
        return to_task(row, f"{self._source.name}-{self._numbers[index]}", self._source.name)[0]
