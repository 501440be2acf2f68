"""Tasks that stay on disk: for files larger than memory."""

from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import overload

from arpo.data.tasks import ReadTask, collect_tasks, question_key, to_task
from arpo.files.sources import BadRow, ParsedRow, Source, open_source
from arpo.types import StrPath, Task


def open_tasks(path: StrPath, on_task: Callable[[Task], object] = lambda task: None) -> "StoredTasks":
    """As `read_tasks`, but a task is read from disk when it is indexed.

    Every row is read once here, so bad rows are known before the first task is used. Memory holds 36 bytes per task and the
    latest row groups of a parquet file. `arpo data convert` writes small row groups, so that any order is cheap to read.

    Args:
        path: As of `read_tasks`.
        on_task: Gets every task once, in order.

    Raises:
        DataError: as `read_tasks`.
    """
    path = Path(path)
    source = open_source(path)
    tasks = StoredTasks(source)

    def add(row: ParsedRow[ReadTask]) -> None:
        tasks.add(row)
        on_task(row.value.task)

    tasks.bad_rows = collect_tasks(path, source, add)
    return tasks


class StoredTasks(Sequence[Task]):
    """The offsets of tasks in their files; indexing reads one.

    Raises:
        DataError: on indexing, when a file was changed since it was opened.
    """

    def __init__(self, source: Source):
        """No tasks yet; `add` those of `source`."""
        self.bad_rows: list[BadRow] = []
        """Rows that were dropped, in order; the caller reports them."""
        self._source = source
        self._files = array("i")
        self._offsets = array("q")
        self._numbers = array("q")
        self._questions = (array("q"), array("q"))
        self._digest = blake2b(digest_size=16)

    def add(self, row: ParsedRow[ReadTask]) -> None:
        """Remember the position of a task."""
        self._files.append(row.file)
        self._offsets.append(row.row.offset)
        self._numbers.append(row.number)
        task = row.value.task
        for keys, with_references in zip(self._questions, (False, True), strict=True):
            keys.append(question_key(task, with_references=with_references))
        self._digest.update(repr((task.id, [(m.role, m.content) for m in task.messages], task.references)).encode())

    @property
    def digest(self) -> str:
        """Hexadecimal digest of ids, prompts and references in their order; a position among other tasks means another task."""
        return self._digest.hexdigest()

    def num_questions(self, *, with_references: bool = False) -> int:
        """Different questions of the tasks, as `question_key` tells them apart."""
        return len(set(self._questions[with_references]))

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._source.files[self._files[index]].read(self._offsets[index])
        return to_task(row, f"{self._source.name}-{self._numbers[index]}", self._source.name).task
