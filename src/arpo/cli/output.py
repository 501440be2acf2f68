"""Printing of every command: results on standard output, progress on standard error; of several ranks the first one prints."""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from arpo.ranks import is_main
from arpo.tracking.console import shown_progress
from arpo.tracking.progress import Progress


def result_console() -> Console:
    """The console for results."""
    return Console(highlight=False, quiet=not is_main())


def progress() -> Progress:
    """Progress on standard error."""
    return shown_progress()


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print the single values of a summary, one per line; nested parts stay in its file."""
    scalars = {k: v for k, v in summary.items() if isinstance(v, int | float | str)}
    width = max((len(k) for k in scalars), default=0)
    for name, value in scalars.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        result_console().print(f"  {name:<{width}}  {text}", markup=False, soft_wrap=True)


def make_table(*headings: str, title: str | None = None, **style: Any) -> Table:
    """A table; columns whose heading begins with `>` hold numbers and are aligned right. `style`: options of rich's Table.

    What is too wide goes on in the next line: cut, names that differ at their end alone would look alike.
    """
    table = Table(title=title, title_justify="left", **style)
    for heading in headings:
        justify = "right" if heading.startswith(">") else "left"
        table.add_column(heading.removeprefix(">"), justify=justify, overflow="fold")
    return table


def add_command(subparsers: Any, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """Add a command's parser: its summary in the list of commands, its examples at the end of its help."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples.rstrip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
