from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arpo.data.stored_tasks import open_tasks
from arpo.data.tasks import read_tasks

ROWS = [{"question": f"who {i} ?", "answer": "Bo" if i % 7 else " "} for i in range(1, 60)]


def test_stored_tasks_are_those_that_were_read(tmp_path: Path):
    """59 rows of which every seventh, 8 in all, is bad, in two shards: 51 tasks, in any order."""
    for name, rows in (("train-00000-of-00002", ROWS[:30]), ("train-00001-of-00002", ROWS[30:])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=8)
    read, stored = read_tasks(tmp_path / "train"), open_tasks(tmp_path / "train")
    assert len(stored) == len(read.tasks) == 51
    assert [stored[i] for i in reversed(range(51))] == list(reversed(read.tasks))
    assert stored[-1].id == "train-59"
    assert stored[3:5] == read.tasks[3:5]
    assert stored.bad_rows == read.bad_rows
    with pytest.raises(IndexError):
        stored[51]


def test_repairs_hold_for_stored_tasks(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('\n{"question": "use \\u0008oxed", "answer": "Bo"}\n')
    with pytest.warns(UserWarning, match="1 of 1 prompts"):
        (task,) = open_tasks(tmp_path / "a.jsonl")
    assert (task.id, task.question) == ("a-2", "use \\boxed")


def test_the_digest_names_these_tasks_in_this_order(tmp_path: Path):
    def digest(*rows: dict[str, str]) -> str:
        pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / "a.parquet")
        return open_tasks(tmp_path / "a.parquet").digest

    first, second = ROWS[:2]
    same = digest(first, second)
    assert same == digest(first, second)
    assert len({same, digest(second, first), digest(first), digest(first, {**second, "answer": "Al"})}) == 4
