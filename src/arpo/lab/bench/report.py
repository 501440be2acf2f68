"""The results of a speed program as JSON, as a page and on the terminal."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo.errors import DataError
from arpo.files.whole import write_text
from arpo.viewer.markdown import markdown_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Reads and shows the results of one speed program."""

    command: str
    """The command that measures them."""
    title: str
    explanation: str
    """What the columns mean."""
    columns: Mapping[str, Mapping[str, str]]
    """Table of the results -> column to show -> its heading."""

    def read_json(self, file: Path) -> dict[str, Any]:
        """Read the results that `write_json` wrote.

        Raises:
            DataError: the file does not hold them.
        """
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            read = {key: result[key] for key in ("command", "machine", *self.columns)}
            list(self.tables(read))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: holds no results of `{self.command}` ({error!r}); write them with --json") from error
        return read

    def tables(self, result: Mapping[str, Any]) -> Iterator[list[list[str]]]:
        """Each table that has rows, as text: the headings, then the rows."""
        for key, columns in self.columns.items():
            if result[key]:
                yield [list(columns.values()), *([_text(row[c]) for c in columns] for row in result[key])]

    def markdown(self, result: Mapping[str, Any]) -> str:
        """The page in docs/results."""
        where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
        parts = [f"# {self.title}", f"Measured by `{result['command']}` on: {where}.", self.explanation]
        for heading, *rows in self.tables(result):
            parts.append(markdown_table(heading, rows))
        return "\n\n".join(parts) + "\n"


def write_json(result: Mapping[str, Any], file: Path) -> None:
    """Write the results."""
    write_text(file, json.dumps(result, indent=1) + "\n")


def _text(value: float | int | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return str(value)
