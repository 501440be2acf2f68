"""Building and opening a BM25 index of a JSONL corpus (tantivy, on disk)."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tantivy

from arpo.errors import DataError, ToolError

_FORMAT = 1
_DESCRIPTION = "arpo_index.json"
_ANALYZER = "arpo"
_LONGEST_WORD = 64
_MAX_NAMED_FAULTS = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Index:
    """An index on disk, open for reading."""

    tantivy_index: tantivy.Index
    content_hash: str
    """Hex digest of the corpus the index was built from; the same corpus gives the same."""
    num_documents: int


def make_analyzer() -> tantivy.TextAnalyzer:
    """The one way text becomes terms, for documents and queries: split at non-alphanumerics, lower case, no accents."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(_LONGEST_WORD))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .build()
    )


def build_index(corpus: Path, out: Path, on_progress: Callable[[int], None] | None = None) -> int:
    """Index a JSONL corpus into the folder `out` and return the number of documents.

    A line is `{"id": ..., "title": ..., "text": ...}`; `id` and `title` may be missing and `contents` may stand for `text`. The
    corpus is streamed. The index is built beside `out` and then renamed, so `out` is always whole; an index already there is
    replaced. Bad lines are left out, counted, and the first few named in a logged warning.

    Args:
        corpus: The documents.
        out: Folder of the index.
        on_progress: Called with the number of documents so far, now and then.

    Raises:
        DataError: the corpus is missing, holds no usable line, or `out` is a folder that is not an index.
    """
    if not corpus.is_file():
        raise DataError(f"{corpus}: no such corpus; a corpus is a JSONL file of documents with `title` and `text`")
    if out.exists() and not (out / _DESCRIPTION).is_file():
        raise DataError(f"{out}: exists and is not an index, so it will not be replaced; choose another folder")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        num_documents, digest = _write(corpus, partial, on_progress)
        description = {"format": _FORMAT, "content_hash": digest, "num_documents": num_documents}
        (partial / _DESCRIPTION).write_text(json.dumps(description) + "\n", encoding="utf-8")
        _replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return num_documents


def open_index(path: Path) -> Index:
    """Open an index for reading.

    Raises:
        ToolError: there is no index, or another version of arpo wrote it; the message has the command that builds one.
    """
    command = f"arpo index build <corpus.jsonl> --out {path}"
    try:
        description = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise ToolError(
                f"{path}: index of format {description['format']}, this arpo reads {_FORMAT}; build it anew: {command}"
            )
        index = tantivy.Index.open(str(path))
        opened = Index(index, description["content_hash"], description["num_documents"])
    except FileNotFoundError as error:
        raise ToolError(f"{path}: no search index here; build one with: {command}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{path}: the search index cannot be read ({error}); build it anew: {command}") from error
    index.register_tokenizer(_ANALYZER, make_analyzer())
    return opened


def _write(corpus: Path, folder: Path, on_progress: Callable[[int], None] | None) -> tuple[int, str]:
    schema = (
        tantivy.SchemaBuilder()
        .add_text_field("title", tokenizer_name=_ANALYZER)
        .add_text_field("text", stored=True, tokenizer_name=_ANALYZER)
        .add_unsigned_field("ordinal", stored=True)
        .build()
    )
    index = tantivy.Index(schema, path=str(folder))
    index.register_tokenizer(_ANALYZER, make_analyzer())
    # One thread: documents keep the corpus's order, so equal corpora give equal indices.
    writer = index.writer(heap_size=128_000_000, num_threads=1)
    digest = hashlib.sha256()
    num_documents, faults = 0, list[str]()
    for number, line in _lines(corpus, digest):
        try:
            title, text = _read_document(line)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
            continue
        document = tantivy.Document()
        document.add_text("title", title)
        document.add_text("text", text)
        document.add_unsigned("ordinal", number)
        writer.add_document(document)
        num_documents += 1
        if on_progress and num_documents % 1000 == 0:
            on_progress(num_documents)
    _report(corpus, num_documents, faults)
    writer.commit()
    writer.wait_merging_threads()
    if on_progress:
        on_progress(num_documents)
    return num_documents, digest.hexdigest()


def _lines(corpus: Path, digest: "hashlib._Hash") -> Iterator[tuple[int, bytes]]:
    with corpus.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            digest.update(line)
            if line.strip():
                yield number, line


def _read_document(line: bytes) -> tuple[str, str]:
    """Title and text of a line; whitespace in the text becomes single spaces, as a result shows one document a line."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    text, title = record.get("text", record.get("contents")), record.get("title", "")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no `text` (or `contents`) with words in it")
    if not isinstance(title, str):
        raise ValueError(f"`title` = {title!r} is not a string")
    f"{title}{text}".encode()  # raises UnicodeEncodeError, a ValueError, where half a surrogate pair was escaped
    return title, " ".join(text.split())


def _report(corpus: Path, num_documents: int, faults: list[str]) -> None:
    named = "; ".join(faults[:_MAX_NAMED_FAULTS]) + ("; ..." if len(faults) > _MAX_NAMED_FAULTS else "")
    if num_documents == 0:
        raise DataError(f"{corpus}: no usable document ({named or 'the file is empty'})")
    if faults:
        _log.warning("%s: %d bad lines left out of %d: %s", corpus, len(faults), num_documents + len(faults), named)


def _replace_folder(partial: Path, out: Path) -> None:
    if out.exists():
        old = out.with_name(out.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old)
    else:
        partial.rename(out)
