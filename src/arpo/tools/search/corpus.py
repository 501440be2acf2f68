"""Reads document corpora from any position on: rows of JSONL and parquet, passages of text and Markdown."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from arpo.errors import DataError
from arpo.files.rows import START, BadRowError, GzipJsonLinesFile, JsonLinesFile, ParquetFile, Position, ScannedRow

PASSAGE_CHARS = 1200
"""Approximate characters of a passage of a text or Markdown file, which is cut at ends of paragraphs where possible."""
_KEYS = ("id", "title", "text", "contents", "url")
_MARKDOWN = (".md", ".markdown")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus."""

    id: str
    title: str
    text: str
    url: str = ""


def list_files(corpora: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files of a corpus in reading order, and the files of its folders with unknown endings.

    A folder stands for all files in and below it, sorted by path.

    Raises:
        DataError: a path does not exist, a named file has an unknown ending, or no file is readable.
    """
    files: list[Path] = []
    unknown: list[Path] = []
    for corpus in corpora:
        if corpus.is_dir():
            for path in sorted(p for p in corpus.rglob("*") if p.is_file()):
                (files if _reader(path) else unknown).append(path)
        elif not corpus.is_file():
            raise DataError(f"{corpus}: no such corpus; name files or folders of {', '.join(READERS)}")
        elif not _reader(corpus):
            raise DataError(f"{corpus}: cannot read this kind of file; a corpus ends in {', '.join(READERS)}")
        else:
            files.append(corpus)
    if not files:
        raise DataError(f"{', '.join(map(str, corpora))}: holds no file that ends in {', '.join(READERS)}")
    return files, unknown


def read_documents(path: Path, start: Position = START) -> Iterator[tuple[Document | BadRowError, Position]]:
    """The documents of a file from a position on, each with the position after it; a bad row yields its error.

    Raises:
        DataError: the file cannot be read.
    """
    reader = _reader(path)
    assert reader is not None
    for row in reader(path, start):
        try:
            yield _to_document(row.value), row.end
        except BadRowError as error:
            yield error, row.end


def split_contents(contents: str) -> tuple[str, str]:
    r"""Title and text of a wiki-18 passage, whose first line is the title in quotes; a single line has no title.

    Example:
        split_contents('"Kelford"\nA town in Osmark.')  # -> ("Kelford", "A town in Osmark.")
    """
    first, _, rest = contents.partition("\n")
    if not rest.strip():
        return "", contents
    return first.strip().strip('"').strip(), rest


def _reader(path: Path) -> Callable[[Path, Position], Iterator[ScannedRow]] | None:
    return next((reader for suffix, reader in READERS.items() if path.name.lower().endswith(suffix)), None)


def _read_parquet(path: Path, start: Position) -> Iterator[ScannedRow]:
    file = ParquetFile(path, _KEYS)
    if not {"text", "contents"} & set(file.columns):
        raise DataError(f"{path}: no column `text` or `contents`; it has {', '.join(file.columns)}")
    return file.scan(start)


def _to_document(row: dict[str, Any] | BadRowError) -> Document:
    """A row `{"id", "title", "text", "url"}`, only the text required; `contents` may replace title and text, or the text."""
    if isinstance(row, BadRowError):
        raise row
    record = {key: row[key] for key in _KEYS if row.get(key) is not None}
    text, title = record.get("text", record.get("contents")), record.get("title")
    if not isinstance(text, str) or not text.strip():
        raise BadRowError("no `text` (or `contents`) with words in it")
    if title is None:
        title, text = split_contents(text) if "text" not in record else ("", text)
    if not isinstance(title, str):
        raise BadRowError(f"`title` = {str(title)[:50]!r} is not a string")
    return Document(str(record.get("id", "")), title, text, str(record.get("url", "")))


def _read_text(path: Path, start: Position) -> Iterator[ScannedRow]:
    number = start.number
    try:
        with path.open(encoding="utf-8-sig") as stream:
            title = (_first_heading(stream) if path.suffix.lower() in _MARKDOWN else "") or path.stem
            stream.seek(0)
            for text in itertools.islice(_split_passages(stream), start.number, None):
                number += 1
                passage = {"id": f"{path.name}#{number}", "title": title, "text": text}
                yield ScannedRow(number, number - 1, passage, number)
    except UnicodeDecodeError as error:
        fault = BadRowError(f"not UTF-8 ({error.reason}); the rest of this file is dropped")
        yield ScannedRow(number + 1, number, fault, number + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _first_heading(lines: IO[str]) -> str:
    return next((line.lstrip("#").strip() for line in lines if line.startswith("# ")), "")


def _split_passages(lines: Iterable[str]) -> Iterator[str]:
    """Passages of whole paragraphs; a paragraph longer than two passages is cut between words."""
    words: list[str] = []
    length = 0
    for line in lines:
        if length >= PASSAGE_CHARS and (not line.strip() or line.startswith("#")):
            yield " ".join(words)
            words, length = [], 0
        for word in (piece for w in line.split() for piece in _cut(w)):
            if length + len(word) > 2 * PASSAGE_CHARS:
                yield " ".join(words)
                words, length = [], 0
            words.append(word)
            length += len(word) + 1
    if words:
        yield " ".join(words)


def _cut(word: str) -> Iterator[str]:
    """Pieces of a word, each at most a passage long."""
    return (word[i : i + PASSAGE_CHARS] for i in range(0, len(word), PASSAGE_CHARS))


READERS: dict[str, Callable[[Path, Position], Iterator[ScannedRow]]] = {
    ".jsonl": lambda path, start: JsonLinesFile(path).scan(start),
    ".jsonl.gz": lambda path, start: GzipJsonLinesFile(path).scan(start),
    ".parquet": _read_parquet,
    **dict.fromkeys((".txt", *_MARKDOWN), _read_text),
}
"""File name ending -> reader from a position on."""
