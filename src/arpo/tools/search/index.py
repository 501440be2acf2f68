"""Builds and opens a BM25 index of a document corpus (tantivy, on disk)."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tantivy

from arpo.errors import DataError, ToolError
from arpo.files.lock import LOCK_NAME, take_lock
from arpo.files.rows import START, Position
from arpo.files.whole import partial_path, whole, write_json, write_text
from arpo.tools.scripts import write_grams
from arpo.tools.search.corpus import Document, list_files, read_documents

_FORMAT = 3
_WITHOUT_GRAMS = 2
"""Format of indices that hold no grams of unspaced scripts: read, but such words are found in them as whole clauses only."""
_DESCRIPTION = "arpo_index.json"
_STATES = "arpo_build.json"
_ANALYZER = "arpo"
GRAM_FIELDS = {"title": "title_grams", "text": "text_grams"}
"""Field -> the field of its grams, see `arpo.tools.scripts`."""
_LONGEST_WORD = 64
_MAX_NAMED_FAULTS = 5
_COMMIT_EVERY = 100_000
_HEAP_BYTES = 128_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Index:
    """An index on disk, open for reading."""

    tantivy_index: tantivy.Index
    content_hash: str
    """Hex digest of the documents in their order; the files they came in do not matter."""
    num_documents: int
    has_grams: bool
    """Whether it finds words of scripts without blanks; an index that a former version built does not."""


def make_analyzer() -> tantivy.TextAnalyzer:
    """Analyzer of documents and queries: splits at non-alphanumerics, lowers case, removes accents."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(_LONGEST_WORD))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .build()
    )


def build_index(corpora: Sequence[Path], out: Path, on_progress: Callable[[int], None] | None = None) -> int:
    """Index documents into the folder `out` and return their number.

    A corpus is a file, or a folder of files: JSONL (also gzipped) and parquet with `text` or `contents` and optional `id`,
    `title`, `url`; text and Markdown, cut into passages. `contents` without a `title` is in the wiki-18 form, whose first line
    is the title.

    Documents are streamed. The index is built beside `out` and then renamed, so `out` is always whole; an existing index is
    replaced. An interrupted build resumes from its last save (every 100,000 documents) if the files are the same. Bad rows are
    dropped and counted; a logged warning names the first few, and the files of a folder with unknown endings.

    Args:
        corpora: files and folders of documents.
        out: folder of the index.
        on_progress: called from time to time with the number of documents so far.

    Raises:
        DataError: a corpus is missing or cannot be read, there is no usable document, or `out` is no index.
        RunError: another process is building it.
    """
    files, unknown = list_files(corpora)
    if out.exists() and not (out / _DESCRIPTION).is_file():
        raise DataError(f"{out}: exists and is not an index, so it will not be replaced; choose another folder")
    partial_path(out).mkdir(parents=True, exist_ok=True)
    lock = take_lock(partial_path(out))
    try:
        with whole(out, is_resumable=True) as partial:
            state = _write(files, partial, on_progress)
            _report_faults(state, unknown)
            description = {"format": _FORMAT, "content_hash": state.digest, "num_documents": state.num_documents}
            write_json(partial / _DESCRIPTION, description)
            (partial / _STATES).unlink()
            (partial / LOCK_NAME).unlink()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on with this index") from None
    finally:
        os.close(lock)
    return state.num_documents


def open_index(path: Path) -> Index:
    """Open an index for reading.

    Raises:
        ToolError: the folder holds no index of this version of arpo; the message has the command that builds one.
    """
    command = f"arpo index build <corpus> --out {path}"
    try:
        description = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] not in (_WITHOUT_GRAMS, _FORMAT):
            raise ToolError(
                f"{path}: index of format {description['format']}, this arpo reads {_WITHOUT_GRAMS} and {_FORMAT}; build it "
                f"anew: {command}"
            )
        index = tantivy.Index.open(str(path))
        has_grams = description["format"] == _FORMAT
        opened = Index(index, description["content_hash"], description["num_documents"], has_grams)
    except FileNotFoundError as error:
        raise ToolError(f"{path}: no search index here; build one with: {command}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{path}: the search index cannot be read ({error}); build it anew: {command}") from error
    index.register_tokenizer(_ANALYZER, make_analyzer())
    return opened


@dataclass(slots=True)
class _State:
    """Progress of a build."""

    file: int = 0
    """Index of the file being read."""
    position: Position = START
    """Position in that file."""
    num_documents: int = 0
    num_faults: int = 0
    named_faults: list[str] = field(default_factory=list)
    digest: str = ""


def _write(files: list[Path], folder: Path, on_progress: Callable[[int], None] | None) -> _State:
    """Write all documents; resume an interrupted build of the same files."""
    sources = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    index, state = _resume(folder, sources) or _begin(folder)
    index.register_tokenizer(_ANALYZER, make_analyzer())
    # One thread: documents keep the corpus's order, so equal corpora give equal indices.
    writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
    saved = asdict(state)
    for document in _read(files, state):
        writer.add_document(_to_tantivy(document, state.num_documents))
        state.num_documents += 1
        state.digest = _chain(state.digest, document)
        if on_progress and state.num_documents % 1000 == 0:
            on_progress(state.num_documents)
        if state.num_documents % _COMMIT_EVERY == 0:
            # Both states are saved: the index's number of documents tells which of them it is in.
            _save(folder, sources, [saved, saved := asdict(state)])
            writer.commit()
    if state.num_documents == 0:
        named = "; ".join(state.named_faults) or "it is empty"
        raise DataError(f"{', '.join(map(str, files[:3]))}: no usable document ({named})")
    _save(folder, sources, [saved, asdict(state)])
    writer.commit()
    writer.wait_merging_threads()
    if on_progress:
        on_progress(state.num_documents)
    return state


def _save(folder: Path, sources: list[list[Any]], states: list[dict[str, Any]]) -> None:
    write_text(folder / _STATES, json.dumps({"sources": sources, "states": states}))


def _begin(folder: Path) -> tuple[tantivy.Index, _State]:
    for path in folder.iterdir():
        if path.name != LOCK_NAME:
            path.unlink()
    schema = (
        tantivy.SchemaBuilder()
        .add_text_field("title", stored=True, tokenizer_name=_ANALYZER)
        .add_text_field("text", stored=True, tokenizer_name=_ANALYZER)
        .add_text_field("title_grams", tokenizer_name="whitespace")
        .add_text_field("text_grams", tokenizer_name="whitespace")
        .add_bytes_field("id", stored=True, indexed=False)
        .add_bytes_field("url", stored=True, indexed=False)
        .add_unsigned_field("ordinal", stored=True)
        .build()
    )
    return tantivy.Index(schema, path=str(folder)), _State()


def _resume(folder: Path, sources: list[list[Any]]) -> tuple[tantivy.Index, _State] | None:
    """The index and state of an interrupted build; None without a build of the same files."""
    try:
        saved = json.loads((folder / _STATES).read_text(encoding="utf-8"))
        if saved["sources"] != sources:
            return None
        index = tantivy.Index.open(str(folder))
        states = [_State(**{**s, "position": Position(*s["position"])}) for s in saved["states"]]
        state = next(s for s in states if s.num_documents == index.searcher().num_docs)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    if state.num_documents:
        _log.warning("%s: resuming an interrupted build after %d documents", folder, state.num_documents)
    return index, state


def _read(files: list[Path], state: _State) -> Iterator[Document]:
    """The usable documents from `state` on; updates `state`."""
    while state.file < len(files):
        path = files[state.file]
        for document, end in read_documents(path, state.position):
            state.position = end
            if isinstance(document, Document):
                yield document
                continue
            state.num_faults += 1
            if len(state.named_faults) < _MAX_NAMED_FAULTS:
                state.named_faults.append(f"{path.name}, row {end.number}: {document}")
        state.file, state.position = state.file + 1, START


def _to_tantivy(document: Document, ordinal: int) -> tantivy.Document:
    entry = tantivy.Document()
    entry.add_text("title", " ".join(document.title.split()))
    entry.add_text("text", " ".join(document.text.split()))
    for name, text in (("title", document.title), ("text", document.text)):
        if grams := write_grams(text):
            entry.add_text(GRAM_FIELDS[name], " ".join(grams))
    entry.add_bytes("id", document.id.encode())
    entry.add_bytes("url", document.url.encode())
    entry.add_unsigned("ordinal", ordinal)
    return entry


def _chain(digest: str, document: Document) -> str:
    fields = json.dumps([digest, document.id, document.title, document.text, document.url])
    return hashlib.sha256(fields.encode()).hexdigest()


def _report_faults(state: _State, unknown: list[Path]) -> None:
    if state.num_faults:
        named = "; ".join(state.named_faults) + ("; ..." if state.num_faults > len(state.named_faults) else "")
        num_rows = state.num_faults + state.num_documents
        _log.warning("%d bad rows of %d dropped: %s", state.num_faults, num_rows, named)
    if unknown:
        named = ", ".join(p.name for p in unknown[:_MAX_NAMED_FAULTS]) + (", ..." if len(unknown) > _MAX_NAMED_FAULTS else "")
        _log.warning("%d files with unknown endings skipped: %s", len(unknown), named)
