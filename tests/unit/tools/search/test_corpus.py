"""Reading corpora: formats, bad rows, and going on from any row."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arpo.errors import DataError
from arpo.tools.search.corpus import PASSAGE_CHARS, Document, list_files, read_documents, split_contents


def documents(path: Path) -> list[tuple[str, str, str]]:
    return [(d.id, d.title, d.text) for d, _ in read_documents(path) if isinstance(d, Document)]


def test_wiki_18_passages_in_every_container(tmp_path: Path):
    rows = [{"id": "0", "contents": '"Kelford"\nA town\nin Osmark.'}, {"id": "1", "contents": "alone"}]
    lines = "".join(json.dumps(r) + "\n" for r in rows)
    (tmp_path / "w.jsonl").write_text(lines)
    (tmp_path / "w.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "w.parquet")
    for name in ("w.jsonl", "w.jsonl.gz", "w.parquet"):
        assert documents(tmp_path / name) == [("0", "Kelford", "A town\nin Osmark."), ("1", "", "alone")], name


def test_titles_and_texts_of_their_own_are_left_as_they_are(tmp_path: Path):
    (tmp_path / "c.jsonl").write_text('{"id": 7, "title": "T", "text": "one\\ntwo"}\n{"title": null, "text": "x\\ny"}\n')
    assert documents(tmp_path / "c.jsonl") == [("7", "T", "one\ntwo"), ("", "", "x\ny")]
    assert split_contents('"A "quoted" name"\ntext') == ('A "quoted" name', "text")


def test_text_is_cut_into_passages_of_whole_paragraphs(tmp_path: Path):
    paragraph = " ".join(["word"] * 100)  # 499 characters: two are short of a passage, three are one
    (tmp_path / "notes.md").write_text(f"intro\n\n# The title\n\n{paragraph}\n\n{paragraph}\n\n{paragraph}\n\n## Last\n\nend\n")
    rows = documents(tmp_path / "notes.md")
    assert [(i, t) for i, t, _ in rows] == [("notes.md#1", "The title"), ("notes.md#2", "The title")]
    assert rows[0][2] == f"intro # The title {paragraph} {paragraph} {paragraph}"
    assert rows[1][2] == "## Last end"
    (tmp_path / "plain.txt").write_text("x" * 10_000 + " " + "word " * 2000)
    passages = [text for _, _, text in documents(tmp_path / "plain.txt")]
    assert max(map(len, passages)) <= 2 * PASSAGE_CHARS
    assert "".join(passages).replace(" ", "") == "x" * 10_000 + "word" * 2000, "nothing is lost"


def test_text_that_is_not_utf_8_is_reported(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    ((fault, _),) = read_documents(tmp_path / "a.txt")
    assert "not UTF-8" in str(fault)


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "c.parquet", "c.txt"])
def test_reading_goes_on_behind_any_row(tmp_path: Path, name: str):
    rows = [{"id": str(i), "text": f"t{i}"} for i in range(7)]
    lines = "\n".join(json.dumps(r) for r in rows[:3]) + "\n\n{bad\n" + "\n".join(json.dumps(r) for r in rows[3:])
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif name.endswith("txt"):
        path.write_text("\n\n".join(f"{i} " * PASSAGE_CHARS for i in range(4)))
    else:
        path.write_bytes(gzip.compress(lines.encode()) if name.endswith("gz") else lines.encode())
    whole = list(read_documents(path))
    assert len(whole) >= 4
    for n, (_, end) in enumerate(whole, start=1):
        assert list(map(str, read_documents(path, end))) == list(map(str, whole[n:])), f"behind row {n}"


def test_a_folder_stands_for_its_files_and_names_the_rest(tmp_path: Path):
    for name in ("b/z.md", "a.txt", "b/c.jsonl", "photo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    files, unknown = list_files([tmp_path])
    assert [p.name for p in files] == ["a.txt", "c.jsonl", "z.md"]
    assert [p.name for p in unknown] == ["photo.png"]
    for wrong, says in ((tmp_path / "photo.png", "cannot read this kind"), (tmp_path / "none.jsonl", "no such corpus")):
        with pytest.raises(DataError, match=says):
            list_files([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file that ends in"):
        list_files([tmp_path / "empty"])


def test_files_that_only_look_like_it_are_errors(tmp_path: Path):
    (tmp_path / "c.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"c\.parquet: not a parquet file"):
        list(read_documents(tmp_path / "c.parquet"))
    pq.write_table(pa.table({"words": ["x"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="no column `text` or `contents`; it has words"):
        list(read_documents(tmp_path / "d.parquet"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 5000)[:-40])
    with pytest.raises(DataError, match=r"cannot be read beyond row \d+"):
        list(read_documents(tmp_path / "c.jsonl.gz"))
