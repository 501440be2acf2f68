import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from arpo.errors import DataError
from arpo.files import rows
from arpo.files.rows import FORMATS, BadRowError, GzipJsonLinesFile, ParquetFile, RowFile
from arpo.files.sources import open_source

ROWS: list[dict[str, Any]] = [{"question": f"who {i} ?", "answer": ["é", str(i)], "extra": {"level": i}} for i in range(150)]


def write(path: Path, found: list[dict[str, Any]] = ROWS) -> Path:
    """The rows in the format of the path's ending; `stream.arrow` as a stream, any other .arrow as a file."""
    table = pa.Table.from_pylist(found)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=40)
    elif path.suffix == ".arrow":
        new = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=70)
    elif path.suffix == ".json":
        path.write_text(json.dumps(found))
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in found).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def open_file(path: Path) -> RowFile:
    return GzipJsonLinesFile(path) if path.suffix == ".gz" else FORMATS[path.suffix](path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.arrow", "stream.arrow"])
def test_every_format_gives_its_rows_in_order_and_each_from_its_offset(tmp_path: Path, name: str):
    file = open_file(write(tmp_path / name))
    found = list(file.scan())
    assert [row.value for row in found] == ROWS
    assert [row.number for row in found] == list(range(1, 151))
    assert [file.read(found[i].offset) for i in (149, 0, 40, 39, 79, 149)] == [ROWS[i] for i in (149, 0, 40, 39, 79, 149)]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.arrow", "stream.arrow", "a.jsonl.gz"])
def test_reading_goes_on_behind_any_row(tmp_path: Path, name: str):
    file = open_file(write(tmp_path / name))
    found = list(file.scan())
    for row in found[:5] + found[38:42] + found[69:71] + found[-2:]:
        assert list(file.scan(row.end)) == found[row.number :], f"behind row {row.number}"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_blank_and_bad_lines_count_as_lines(tmp_path: Path, name: str):
    text = b'{"a": 1}\n\n{bad\n\n\n{"a": 2}'
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    file = open_file(tmp_path / name)
    found = list(file.scan())
    assert [(row.number, row.offset, row.next_offset) for row in found] == [(1, 0, 9), (3, 10, 15), (6, 17, 25)]
    assert [list(map(str, file.scan(row.end))) for row in found] == [list(map(str, found[n:])) for n in (1, 2, 3)]
    assert [file.read(0), file.read(17)] == [{"a": 1}, {"a": 2}]


def test_of_a_parquet_file_the_wanted_columns_alone_are_read(tmp_path: Path):
    file = ParquetFile(write(tmp_path / "a.parquet"), ["answer", "question", "url"])
    assert file.columns == ["question", "answer", "extra"]
    wanted = [{key: row[key] for key in ("question", "answer")} for row in ROWS]
    assert [row.value for row in file.scan()] == wanted
    assert file.read(149) == wanted[149]


def test_a_gzipped_file_that_is_cut_off_says_how_far_it_goes(tmp_path: Path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 5000)[:-40])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: cannot be read beyond row \d+ \("):
        list(open_file(tmp_path / "a.jsonl.gz").scan())


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.arrow"])
def test_a_file_that_changed_is_not_read_on(tmp_path: Path, name: str):
    path = write(tmp_path / name)
    file = open_file(path)
    offset = list(file.scan())[3].offset
    write(path, ROWS[:100])
    with pytest.raises(DataError, match="changed or removed while it was in use"):
        file.read(offset)
    path.unlink()
    with pytest.raises(DataError, match="changed or removed while it was in use"):
        file.read(offset)


@pytest.mark.parametrize("name", ["a.parquet", "a.json", "a.arrow"])
def test_half_a_file_is_refused_by_its_name(tmp_path: Path, name: str):
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=f"{name}: not an? .* that can be read"):
        list(open_file(path).scan())


def test_one_unreadable_value_costs_its_row_alone(tmp_path: Path):
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0\6\0\0\0"), pa.py_buffer(b"ab\xff\xffcd"))
    pq.write_table(pa.table({"question": texts, "answer": ["1", "2", "3"]}), tmp_path / "a.parquet")
    values = [row.value for row in open_file(tmp_path / "a.parquet").scan()]
    assert [values[0], values[2]] == [{"question": "ab", "answer": "1"}, {"question": "cd", "answer": "3"}]
    assert isinstance(values[1], BadRowError)
    assert "values that cannot be read" in str(values[1])


def test_lines_that_are_no_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 40)
    lines = [
        b'\xef\xbb\xbf{"a": 1}',
        b"",
        b"[1]",
        b'{"a": "' + b"x" * 3_000_000 + b'"}',
        b'{"a": "\\ud800"}',
        b'{"a": 2}',
        b"[" * 39,
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    file = open_file(tmp_path / "a.jsonl")
    found = list(file.scan())
    assert [row.number for row in found] == [1, 3, 4, 5, 6, 7]
    assert [found[0].value, found[4].value] == [{"a": 1}, {"a": 2}]
    reasons = [str(found[i].value) for i in (1, 2, 3, 5)]
    for reason, word in zip(reasons, ["no JSON object", "3000010 bytes; the most is 40", "surrogate", "no JSON"], strict=True):
        assert word in reason
    assert file.read(found[4].offset) == {"a": 2}


def test_a_line_nested_too_deeply_is_a_bad_row(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"a": ' + "[" * 100_000 + "\n")
    (row,) = open_file(tmp_path / "a.jsonl").scan()
    assert "nested too deeply" in str(row.value)


MEASURE = """
import random, resource, sys
from pathlib import Path
import pyarrow as pa
from arpo.files import rows

def held():
    is_mapped = path.suffix == ".arrow"
    return pa.total_allocated_bytes() if is_mapped else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

path = Path(sys.argv[1])
rows._CACHED_BYTES = 4 * 2**20
file = rows.FORMATS[path.suffix](path)
offsets, before = [], 0
for row in file.scan():
    offsets.append(row.offset)
    before = held() if len(offsets) == 480 else before
for offset in random.Random(0).sample(offsets, 30):
    assert len(file.read(offset)["question"]) == 10000
print(len(offsets), held() - before)
"""


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "stream.arrow"])
def test_a_file_is_never_held_in_memory(tmp_path: Path, name: str):
    """48 MB, of which a tenth has been read: the rest and 30 rows at random take less than a third of the file more.

    Pages of a mapped file count as resident although the system takes them back at will, so for .arrow pyarrow is asked.
    """
    source = random.Random(0)
    found = [{"question": source.randbytes(5000).hex()} for _ in range(480)] * 10
    path = tmp_path / name
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.schema([("question", pa.string())])) as writer:
            for first in range(0, 4800, 100):
                writer.write_table(pa.Table.from_pylist(found[first : first + 100]))
    else:
        write(path, found)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    num_rows, grown = map(int, done.stdout.split())
    assert num_rows == 4800
    assert grown < 48_000_000 / 3


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(DataError, match=r"a Git LFS pointer, not the data .*git lfs pull"):
        open_source(path)


def test_json_lines_named_json_are_named_as_such(tmp_path: Path):
    (tmp_path / "a.json").write_text('\n{"a": 1}\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"JSON Lines, one object a line, not a JSON array; rename it to \.jsonl"):
        list(open_source(tmp_path / "a.json").scan())
    (tmp_path / "b.json").write_text('[{"a": 1},\n')
    with pytest.raises(DataError, match="not a JSON array that can be read"):
        list(open_source(tmp_path / "b.json").scan())
