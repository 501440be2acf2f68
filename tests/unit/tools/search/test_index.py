"""Building an index: what is indexed, what is refused, what is left behind."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arpo.errors import DataError, RunError, ToolError
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.index import build_index, open_index
from arpo.tools.search.local import LocalIndex


def write_corpus(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_bad_lines_are_dropped_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = write_corpus(
        tmp_path / "c.jsonl",
        {"id": "1", "title": "A", "text": "one"},
        "{broken",
        {"title": "B"},
        [],
        "",
        {"contents": "two"},
        {"text": "\ud800"},
    )
    with caplog.at_level(logging.WARNING):
        assert build_index([corpus], tmp_path / "index") == 2
    assert "4 bad rows of 6 dropped" in caplog.text
    assert "c.jsonl, row 2: " in caplog.text
    assert "row 3: no `text`" in caplog.text
    assert "row 7:" in caplog.text
    assert open_index(tmp_path / "index").num_documents == 2


@pytest.mark.parametrize("lines", [(), ("{broken", {"title": "no text"})])
def test_corpus_without_a_usable_line_is_refused_and_leaves_nothing(tmp_path: Path, lines: tuple[object, ...]) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", *lines)
    with pytest.raises(DataError, match="no usable document"):
        build_index([corpus], tmp_path / "index")
    assert [p.name for p in tmp_path.iterdir()] == ["c.jsonl"]


def test_missing_corpus_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such corpus"):
        build_index([tmp_path / "none.jsonl"], tmp_path / "index")
    corpus = write_corpus(tmp_path / "c.jsonl", {"text": "one"})
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not an index"):
        build_index([corpus], tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


def test_an_index_is_replaced_whole_and_a_failed_build_keeps_the_old_one(tmp_path: Path) -> None:
    good = write_corpus(tmp_path / "c.jsonl", {"text": "one"}, {"text": "two"})
    bad = write_corpus(tmp_path / "bad.jsonl", "{broken")
    build_index([good], tmp_path / "index")
    first = open_index(tmp_path / "index").content_hash
    with pytest.raises(DataError):
        build_index([bad], tmp_path / "index")
    assert open_index(tmp_path / "index").content_hash == first
    write_corpus(good, {"text": "three"})
    build_index([good], tmp_path / "index")
    assert open_index(tmp_path / "index").num_documents == 1
    assert open_index(tmp_path / "index").content_hash != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl", "c.jsonl", "index"]


def test_progress_ends_at_the_number_of_documents(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", *({"text": f"word{i}"} for i in range(2500)))
    seen: list[int] = []
    build_index([corpus], tmp_path / "index", seen.append)
    assert seen == [1000, 2000, 2500]


def test_missing_and_unreadable_index_say_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="arpo index build"):
        open_index(tmp_path / "none")
    (tmp_path / "index").mkdir()
    for text in ("{broken", '{"format": 99}', "[]"):
        (tmp_path / "index" / "arpo_index.json").write_text(text)
        with pytest.raises(ToolError, match="arpo index build"):
            open_index(tmp_path / "index")


def test_the_same_documents_are_the_same_index_whatever_they_came_in(tmp_path: Path) -> None:
    rows = [{"id": str(i), "title": f"T{i}", "text": f"text {i}"} for i in range(6)]
    whole = write_corpus(tmp_path / "c.jsonl", *rows)
    first, second = write_corpus(tmp_path / "1.jsonl", *rows[:2]), tmp_path / "2.parquet"
    pq.write_table(pa.Table.from_pylist(rows[2:]), second)
    for corpora, out in (([whole], "a"), ([first, second], "b"), ([second, first], "c")):
        assert build_index(corpora, tmp_path / out) == 6
    hashes = [open_index(tmp_path / out).content_hash for out in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(("dies_at", "before_commit"), [(9, False), (25, False), (10, True), (30, True)])
def test_an_interrupted_build_goes_on_and_gives_the_same_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dies_at: int, before_commit: bool
) -> None:
    monkeypatch.setattr("arpo.tools.search.index._COMMIT_EVERY", 10)
    lines = [{"title": f"T{i % 7}", "text": f"same words {i % 5}"} for i in range(33)]
    corpora = [write_corpus(tmp_path / "1.jsonl", *lines[:12], "{bad"), write_corpus(tmp_path / "2.jsonl", *lines[12:])]
    out = tmp_path / "index"
    _build_and_die(corpora, out, dies_at, before_commit)
    assert not out.exists()
    seen: list[int] = []
    assert build_index(corpora, out, seen.append) == 33
    num_saved = dies_at // 10 * 10 - (10 if before_commit and dies_at % 10 == 0 else 0)
    assert (f"after {num_saved} documents" in caplog.text) == (num_saved > 0)
    assert "1 bad rows of 34 dropped: 1.jsonl, row 13" in caplog.text
    build_index(corpora, tmp_path / "whole")
    assert open_index(out).content_hash == open_index(tmp_path / "whole").content_hash
    results = [LocalIndex(LocalSearchConfig(index=p)).find_now("same words 3 T2", 33) for p in (out, tmp_path / "whole")]
    assert results[0] == results[1]
    assert not (out / "arpo_build.json").exists()


def test_an_interrupted_build_of_other_files_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arpo.tools.search.index._COMMIT_EVERY", 10)
    corpus = write_corpus(tmp_path / "c.jsonl", *({"text": f"old {i}"} for i in range(25)))
    _build_and_die([corpus], tmp_path / "index", 22, before_commit=False)
    write_corpus(corpus, *({"text": f"new {i}"} for i in range(25)))
    assert build_index([corpus], tmp_path / "index") == 25
    index = LocalIndex(LocalSearchConfig(index=tmp_path / "index"))
    assert (len(index.find_now("new", 50)), len(index.find_now("old", 50))) == (25, 0)


BUILDS = """
import sys
from pathlib import Path
from arpo.tools.search import index
index._COMMIT_EVERY = 1000
def waits(done):
    if done == int(sys.argv[1]):
        print("waits", flush=True)
        sys.stdin.readline()
print(index.build_index([Path(sys.argv[2])], Path(sys.argv[3]), waits))
"""


@pytest.mark.parametrize("waits_at", [1000, 2000])
def test_a_second_build_of_an_index_leaves_the_first_alone(tmp_path: Path, waits_at: int) -> None:
    """Before the first has saved anything, and after."""
    corpus = write_corpus(tmp_path / "c.jsonl", *({"text": f"word {i}"} for i in range(2500)))
    command = [sys.executable, "-c", BUILDS, str(waits_at), str(corpus), str(tmp_path / "index")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "waits\n"
        with pytest.raises(RunError, match=rf"index\.partial: in use by process {first.pid}; wait"):
            build_index([corpus], tmp_path / "index")
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.stdout.readline() == "2500\n"
    assert open_index(tmp_path / "index").num_documents == 2500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jsonl", "index"]
    assert build_index([corpus], tmp_path / "index") == 2500


DIES = """
import os, sys
from pathlib import Path
from arpo.tools.search import index
index._COMMIT_EVERY = 10
dies_at, before_commit, out, *corpora = sys.argv[1:]
added = 0
to_tantivy, save = index._to_tantivy, index._save
def adds(*arguments):
    global added
    if added == int(dies_at) and before_commit == "False":
        os._exit(9)
    added += 1
    return to_tantivy(*arguments)
def writes(*arguments):
    save(*arguments)
    if added >= int(dies_at) and before_commit == "True":
        os._exit(9)
index._to_tantivy, index._save = adds, writes
index.build_index([Path(c) for c in corpora], Path(out))
"""


def _build_and_die(corpora: list[Path], out: Path, dies_at: int, before_commit: bool) -> None:
    """Build in a process that is gone at once behind a document, or between writing its state and the commit."""
    arguments = [sys.executable, "-c", DIES, str(dies_at), str(before_commit), str(out), *map(str, corpora)]
    assert subprocess.run(arguments, check=False).returncode == 9
