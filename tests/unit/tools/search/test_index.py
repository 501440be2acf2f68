"""Building an index: what is indexed, what is refused, what is left behind."""

import json
import logging
from pathlib import Path

import pytest

from arpo.errors import DataError, ToolError
from arpo.tools.search.index import build_index, open_index


def write_corpus(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_bad_lines_are_left_out_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
        assert build_index(corpus, tmp_path / "index") == 2
    assert "4 bad lines left out of 6" in caplog.text
    assert "line 2:" in caplog.text
    assert "line 3: no `text`" in caplog.text
    assert "line 7:" in caplog.text
    assert open_index(tmp_path / "index").num_documents == 2


@pytest.mark.parametrize("lines", [(), ("{broken", {"title": "no text"})])
def test_corpus_without_a_usable_line_is_refused_and_leaves_nothing(tmp_path: Path, lines: tuple[object, ...]) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", *lines)
    with pytest.raises(DataError, match="no usable document"):
        build_index(corpus, tmp_path / "index")
    assert [p.name for p in tmp_path.iterdir()] == ["c.jsonl"]


def test_missing_corpus_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such corpus"):
        build_index(tmp_path / "none.jsonl", tmp_path / "index")
    corpus = write_corpus(tmp_path / "c.jsonl", {"text": "one"})
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not an index"):
        build_index(corpus, tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


def test_an_index_is_replaced_whole_and_a_failed_build_keeps_the_old_one(tmp_path: Path) -> None:
    good = write_corpus(tmp_path / "c.jsonl", {"text": "one"}, {"text": "two"})
    bad = write_corpus(tmp_path / "bad.jsonl", "{broken")
    build_index(good, tmp_path / "index")
    first = open_index(tmp_path / "index").content_hash
    with pytest.raises(DataError):
        build_index(bad, tmp_path / "index")
    assert open_index(tmp_path / "index").content_hash == first
    write_corpus(good, {"text": "three"})
    build_index(good, tmp_path / "index")
    assert open_index(tmp_path / "index").num_documents == 1
    assert open_index(tmp_path / "index").content_hash != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl", "c.jsonl", "index"]


def test_progress_ends_at_the_number_of_documents(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", *({"text": f"word{i}"} for i in range(2500)))
    seen: list[int] = []
    build_index(corpus, tmp_path / "index", seen.append)
    assert seen == [1000, 2000, 2500]


def test_missing_and_unreadable_index_say_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="arpo index build"):
        open_index(tmp_path / "none")
    (tmp_path / "index").mkdir()
    for text in ("{broken", '{"format": 99}', "[]"):
        (tmp_path / "index" / "arpo_index.json").write_text(text)
        with pytest.raises(ToolError, match="arpo index build"):
            open_index(tmp_path / "index")
