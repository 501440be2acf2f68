"""Export of a cache to JSONL, and import of such files and of the public ARPO release's `search_cache.json`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from arpo.cache.key import ANY_VERSION, CacheKey, cache_key
from arpo.cache.sqlite import Cache
from arpo.errors import DataError
from arpo.files.whole import whole

_MARKUP = re.compile(r"</?(search|python|result|answer|think)>")
_SHOWN = 60
"""Characters of a damaged key that a report shows."""


@dataclass(slots=True)
class ImportReport:
    """Counts of an import."""

    imported: int = 0
    """Results stored."""
    already_there: int = 0
    """Results skipped: the cache had one for the same call, or no room."""
    damaged: list[str] = field(default_factory=list[str])
    """Position and reason of each dropped result."""


def export_jsonl(cache: Cache, file: Path) -> int:
    """Write every cached result as a line `{name, version, arguments, value, created}`; the number of lines."""
    count = 0
    with whole(file) as partial, partial.open("w", encoding="utf-8") as out:
        for entry in cache.entries():
            key = entry.key
            row = {"name": key.name, "version": key.version, "arguments": json.loads(key.arguments)}
            out.write(json.dumps({**row, "value": entry.value, "created": entry.created}) + "\n")
            count += 1
    return count


def import_results(cache: Cache, file: Path, tool: str = "search", argument: str = "query") -> ImportReport:
    """Store the results of a file: lines of `export_jsonl`, or one JSON object {argument: result text}.

    The object is the public ARPO release's `search_cache.json`. It does not name the engine or its settings, so its results
    answer calls of every version of `tool`. A key with the protocol's markup is damaged and dropped, as is a result that is
    empty or not text.

    Args:
        cache: cache to fill.
        file: file to read.
        tool: tool of an object's results.
        argument: name of the argument that an object's keys are.

    Raises:
        DataError: the file is missing or has neither form.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot read these results ({error})") from error
    report = ImportReport()
    for key, value, created in _rows(file, text, report, tool, argument):
        if cache.put(key, value, created=created):
            report.imported += 1
        else:
            report.already_there += 1
    return report


def _rows(
    file: Path, text: str, report: ImportReport, tool: str, argument: str
) -> "Iterator[tuple[CacheKey, Any, float | None]]":
    try:
        results = json.loads(text)
    except ValueError:
        results = None
    if isinstance(results, dict) and "value" not in results:
        return _rows_of_object(cast("dict[str, Any]", results), report, tool, argument)
    return _rows_of_lines(file, text, report)


def _rows_of_object(
    results: Mapping[str, Any], report: ImportReport, tool: str, argument: str
) -> "Iterator[tuple[CacheKey, Any, float | None]]":
    for asked, content in results.items():
        shown = asked if len(asked) <= _SHOWN else f"{asked[:_SHOWN]}… ({len(asked)} characters)"
        if (markup := _MARKUP.search(asked)) is not None:
            report.damaged.append(f"key {shown!r}: holds the protocol's markup {markup.group()}")
        elif not asked.strip():
            report.damaged.append(f"key {shown!r}: is empty")
        elif not isinstance(content, str) or not content.strip():
            report.damaged.append(f"key {shown!r}: its result is {'empty' if isinstance(content, str) else 'no text'}")
        else:
            yield cache_key(tool, ANY_VERSION, {argument: asked}), {"content": content, "truncated": False}, None


def _rows_of_lines(file: Path, text: str, report: ImportReport) -> "Iterator[tuple[CacheKey, Any, float | None]]":
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            key = cache_key(str(row["name"]), str(row["version"]), row["arguments"])
            value, created = row["value"], float(row["created"])
            if value is None:
                raise ValueError("value is null")
        except (ValueError, KeyError, TypeError) as error:
            report.damaged.append(f"line {number}: {type(error).__name__}: {error}")
            continue
        yield key, value, created
    if not lines or len(report.damaged) == len(lines):
        raise DataError(f"{file}: holds no results; give a file of `arpo cache export`, or one JSON object of query and result")
