"""Whatever a file holds, a reader gives tasks and reasons, or says what is wrong with the file."""

import io
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arpo.data.conversations import read_conversations
from arpo.data.stored_tasks import open_tasks
from arpo.data.tasks import read_tasks
from arpo.errors import DataError
from arpo.files.rows import FORMATS

READERS: tuple[Callable[[Path], Any], ...] = (read_tasks, open_tasks, read_conversations)
FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.sampled_from("ab 7\n\r\t\0\x08\u2028é中🙂\ud83d\ufffd{}[]<>/\"'\\#"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "question", "answer", "prompt", "reward_model", "ability", "extra_info", "data_source",
    "messages", "conversations", "system",
)  # fmt: skip
ROLES = st.sampled_from(["user", "assistant", "tool", "human", "gpt"])
MESSAGE = st.fixed_dictionaries({}, optional=dict.fromkeys(("role", "content", "from", "value"), JSON | ROLES))
ROW = st.dictionaries(
    st.sampled_from(KEYS),
    JSON | st.lists(MESSAGE | JSON, max_size=4) | st.fixed_dictionaries({"ground_truth": JSON}),
    max_size=6,
)


def read_all(path: Path) -> None:
    """Read by every reader; what comes back is whole, and nothing but a DataError is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for reader in READERS:
            try:
                found = reader(path)
            except DataError:
                continue
            for bad in found.bad_rows:
                assert 0 < len(bad.reason) < 2000
            if reader is not read_conversations:
                for task in found if reader is open_tasks else found.tasks:
                    assert task.question.strip()
                    assert all(reference.strip() for reference in task.references)
                    json.dumps(task.extra, allow_nan=False)
                    (task.question + "".join(task.references)).encode()


@FUZZ
@given(data=st.binary(max_size=300), suffix=st.sampled_from(sorted(FORMATS)))
def test_any_bytes(tmp_path: Path, data: bytes, suffix: str):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    read_all(path)


@FUZZ
@given(rows=st.lists(ROW | JSON, max_size=4))
def test_any_json(tmp_path: Path, rows: list[Any]):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    read_all(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    read_all(tmp_path / "a.json")


COLUMN = st.sampled_from([
    pa.array([None, None]), pa.array([1, None]), pa.array([math.nan, -math.inf]), pa.array(["a", ""]), pa.array([b"\xff", b""]),
    pa.array([[{"role": "user", "content": "who ?"}], None]), pa.array([[{"role": "user", "content": None}], []]),
    pa.array([{"ground_truth": "x"}, None]), pa.array([{"ground_truth": [1.5, 2.5]}, {"ground_truth": []}]),
    pa.array([2**62, -(2**62)]).cast(pa.timestamp("us")), pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    pa.array(["a", "b"]).dictionary_encode(), pa.array([2**40, 0]).cast(pa.duration("us")),
    pa.array(["1.50", None]).cast(pa.decimal128(9, 2)),
    pa.array([[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]] * 2),
])  # fmt: skip


@FUZZ
@given(columns=st.dictionaries(st.sampled_from(KEYS), COLUMN, min_size=1, max_size=6))
def test_any_columns(tmp_path: Path, columns: dict[str, pa.Array]):
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    read_all(tmp_path / "a.parquet")
    read_all(tmp_path / "a.arrow")


def parquet_bytes() -> bytes:
    stream = io.BytesIO()
    rows = [{"question": f"who {i} ?", "answer": "Bo", "messages": [{"role": "user", "content": "x"}]} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def arrow_bytes() -> bytes:
    stream = io.BytesIO()
    table = pa.Table.from_pylist([{"question": f"who {i} ?", "answer": "Bo"} for i in range(40)])
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


WHOLE = {".parquet": parquet_bytes(), ".arrow": arrow_bytes()}


@pytest.mark.parametrize("suffix", sorted(WHOLE))
@FUZZ
@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), cut=st.integers(0, 200))
def test_any_damage(tmp_path: Path, suffix: str, damage: list[tuple[int, int]], cut: int):
    data = bytearray(WHOLE[suffix])
    for place, value in damage:
        data[place % len(data)] = value
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: len(data) - (cut if cut < 20 else 0)])
    read_all(path)
