"""Prints rows as a model reads them, coloured by what trains."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from arpo.cli.output import result_console

if TYPE_CHECKING:
    from arpo.data.rendering import RenderedPart, RenderedRow

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TRAINED, _MASKED = "green", "dim"
_WIDTH = 60


def print_row(file: Path, row: "RenderedRow", *, is_task: bool) -> None:
    """Print a row: its numbers of tokens, then its parts, each below a line that says who speaks and whether it trains."""
    console = result_console()
    share = "" if is_task else f", {row.num_trained} of them train ({row.num_trained / max(1, row.num_tokens):.0%})"
    console.print(f"{file}, row {row.row}: {row.num_tokens} tokens{share}", style="bold", markup=False, soft_wrap=True)
    for part in row.parts:
        style = _TRAINED if part.is_trained else _MASKED
        console.print(Text(_heading(part, is_task=is_task), style=f"bold {style}"), soft_wrap=True)
        console.print(Text(visible(part.text), style=style), soft_wrap=True)
    console.print()


def visible(text: str) -> str:
    r"""The text for a terminal: `↵` at line breaks where it begins or ends, escapes for control characters.

    Example:
        visible("\nwho\x1b[2J ?\n")  # -> "↵\nwho\\x1b[2J ?↵"
    """
    text = _CONTROL.sub(lambda mark: f"\\x{ord(mark[0]):02x}", text)
    body = text.strip("\n")
    before, after = (len(text), 0) if not body else (text.index(body), len(text) - len(body) - text.index(body))
    return "↵\n" * before + body + "\n".join("↵" * after)


def _heading(part: "RenderedPart", *, is_task: bool) -> str:
    trains = "" if is_task else " · trains" if part.is_trained else " · masked"
    heading = f"── {part.speaker} · {part.num_tokens} tokens{trains} "
    return heading + "─" * max(2, _WIDTH - len(heading))
