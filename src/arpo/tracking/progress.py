"""Progress reports of long work. Without terminal and torch: the command line draws the bars.

Example:
    with progress.phase("train", total=60, unit="step") as phase:
        for step in range(60):
            phase.advance(reward=0.71, branches=12)
    progress.line("best checkpoint: step 40")
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Field = int | float | str


class Phase(Protocol):
    """The handle of one running phase."""

    def advance(self, n: int = 1, **fields: Field) -> None:
        """Report `n` more units done (0 to report fields alone); each field shows its latest value until the phase ends."""
        ...


class Progress(Protocol):
    """Receives reports of phases."""

    def phase(
        self, title: str, total: int | None, unit: str, done: int = 0, *, max_seconds: float | None = None
    ) -> AbstractContextManager[Phase]:
        """Begin a phase of `total` units (None when unknown); leaving the context ends it, also on an error.

        Args:
            title: What is done.
            total: Units in all.
            unit: Their name.
            done: Units that a run did which this one resumes; they do not count in the estimate of time.
            max_seconds: Seconds after which the phase ends anyway; None: only when all units are done.
        """
        ...

    def line(self, text: str) -> None:
        """Report one finished line of text."""
        ...


class SilentProgress:
    """Reports nothing; for use as a library."""

    def phase(
        self, title: str, total: int | None, unit: str, done: int = 0, *, max_seconds: float | None = None
    ) -> AbstractContextManager[Phase]:
        """A phase without output."""
        return nullcontext(_SilentPhase())

    def line(self, text: str) -> None:
        """Nothing."""


class _SilentPhase:
    def advance(self, n: int = 1, **fields: Field) -> None:
        pass
