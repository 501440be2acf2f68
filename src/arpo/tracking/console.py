"""Draws progress: bars with the remaining time on a terminal, a plain line every few seconds elsewhere."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from arpo.ranks import is_main
from arpo.tracking.progress import Field, Phase, Progress, SilentProgress

PLAIN_INTERVAL_S = 5.0


def make_progress(console: Console) -> Progress:
    """The progress of a console: bars on a terminal, plain lines in a log or pipe."""
    return BarProgress(console) if console.is_terminal else PlainProgress(console)


def shown_progress() -> Progress:
    """Progress on standard error, as a run started from Python shows it by default; in a notebook, lines in the cell.

    Of several ranks the first one shows it.
    """
    return make_progress(Console(stderr=True, highlight=False)) if is_main() else SilentProgress()


class BarProgress:
    """One bar per phase with the latest value of each field; a finished bar stays as the phase's result line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None

    @contextmanager
    def phase(
        self, title: str, total: int | None, unit: str, done: int = 0, *, max_seconds: float | None = None
    ) -> Iterator[Phase]:
        """Show a bar until the context ends; a phase inside another gets a line of the same bars."""
        with self._running_bars() as bars:
            task = bars.add_task(title, total=total, completed=done, unit=unit, fields="", max_seconds=max_seconds)
            yield _BarPhase(bars, task)

    @contextmanager
    def _running_bars(self) -> Iterator[Bars]:
        if self._bars is not None:
            yield self._bars
            return
        with Bars(
            TextColumn("  {task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeLeftColumn(),
            TextColumn("{task.fields[fields]}"),
            console=self._console,
        ) as self._bars:
            try:
                yield self._bars
            finally:
                self._bars = None

    def line(self, text: str) -> None:
        """Print a line above the running bar."""
        self._console.print(f"  {escape(text)}", highlight=False)


class TimeLeftColumn(ProgressColumn):
    """The time left by the speed so far, or that of the phase's limit where it is less."""

    max_refresh = 0.5  # per second, as the estimate jumps otherwise

    def render(self, task: Task) -> Text:
        """Hours, minutes and seconds; dashes while nothing is known."""
        left, limit = task.time_remaining, task.fields["max_seconds"]
        if limit is not None and not task.finished:
            left = min(math.inf if left is None else left, max(0.0, limit - (task.elapsed or 0.0)))
        text = "-:--:--" if left is None else str(timedelta(seconds=int(left)))
        return Text("" if task.total is None else text, style="progress.remaining")


class _BarPhase:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._fields: dict[str, Field] = {}

    def advance(self, n: int = 1, **fields: Field) -> None:
        self._fields |= fields
        self._bars.update(self._task, advance=n, fields=escape(_format_fields(self._fields)))


class PlainProgress:
    """A plain line every few seconds and one when a phase ends."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def phase(
        self, title: str, total: int | None, unit: str, done: int = 0, *, max_seconds: float | None = None
    ) -> Iterator[Phase]:
        """Report the phase in lines."""
        phase = _PlainPhase(self, title, total, unit, done, max_seconds)
        try:
            yield phase
        finally:
            phase.end()

    def line(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)


class _PlainPhase:
    def __init__(
        self, progress: PlainProgress, title: str, total: int | None, unit: str, done: int, max_seconds: float | None
    ) -> None:
        self._progress = progress
        self._title = title
        self._total = total
        self._unit = unit
        self._done = self._done_before = done
        self._max_seconds = max_seconds
        self._fields: dict[str, Field] = {}
        self._start = self._printed = time.monotonic()

    def advance(self, n: int = 1, **fields: Field) -> None:
        self._done += n
        self._fields |= fields
        if time.monotonic() - self._printed >= PLAIN_INTERVAL_S:
            self._print()

    def end(self) -> None:
        if self._done > self._done_before:
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        elapsed = self._printed - self._start
        amount = f"{self._done}/{self._total}" if self._total is not None else str(self._done)
        eta = ""
        if self._total is not None and self._done_before < self._done < self._total:
            left = elapsed / (self._done - self._done_before) * (self._total - self._done)
            left = left if self._max_seconds is None else min(left, max(0.0, self._max_seconds - elapsed))
            eta = f", eta {left:.0f} s"
        text = f"{self._title}: {amount} {self._unit}, {elapsed:.0f} s{eta}  {_format_fields(self._fields)}"
        self._progress.line(text.rstrip())


def _format_fields(fields: dict[str, Field]) -> str:
    return "  ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items())
