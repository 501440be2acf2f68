"""`metrics.jsonl`: one JSON object per line, flushed at once, readable after a crash."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from arpo.errors import DataError
from arpo.files.whole import write_text
from arpo.types import StrPath

METRICS_FILE = "metrics.jsonl"


class JsonlSink:
    """Appends to `metrics.jsonl` in a run directory."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = run_dir / METRICS_FILE
        self._file = self._path.open("a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is not finite becomes `null`, as JSON has no NaN."""
        row = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def truncate_after(self, step: int) -> None:
        """Remove the lines of later steps, and a half-written last line."""
        self._file.close()
        rows = [row for row in _read_rows(self._path) if row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(run_dir: StrPath) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl` in order; empty without the file. A half-written last line is skipped.

    Raises:
        DataError: a line before the last is no row of metrics; the message has its number.

    Example:
        read_metrics("runs/a")[0]  # -> {"step": 1, "rollout/reward_mean": 0.25, ...}
    """
    path = Path(run_dir) / METRICS_FILE
    return _read_rows(path) if path.is_file() else []


def series(rows: Iterable[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """The (step, value) pairs of one metric, in order; rows without it or with `null` are skipped."""
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows: list[dict[str, Any]] = []
    # A complete file ends with a newline and so an empty piece; any other last piece is a half-written line.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise TypeError
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}, line {number}: not a row of metrics: {line[:80]!r}; remove the line to read the rest"
            ) from error
        rows.append(row)
    return rows
