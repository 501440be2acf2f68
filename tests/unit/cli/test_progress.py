import io

import pytest
from rich.console import Console

from arpo.cli.progress import BarProgress, PlainProgress, make_progress
from arpo.tracking.progress import Progress, SilentProgress


def _console(is_terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=is_terminal, width=160, highlight=False), file


def _work(progress: Progress) -> None:
    with progress.phase("train", total=3, unit="step") as phase:
        for step in range(3):
            phase.advance(reward=0.25 * step, note="[bold]")
    progress.line("best: [step 2]")


def test_a_pipe_gets_plain_lines():
    console, file = _console(is_terminal=False)
    progress = make_progress(console)
    assert isinstance(progress, PlainProgress)
    _work(progress)
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("  train: 3/3 step, ")
    assert lines[0].endswith("reward 0.5  note [bold]")
    assert lines[1] == "  best: [step 2]"


def test_a_terminal_gets_a_bar_with_the_latest_fields():
    console, file = _console(is_terminal=True)
    progress = make_progress(console)
    assert isinstance(progress, BarProgress)
    _work(progress)
    assert "3/3" in file.getvalue()
    assert "reward 0.5" in file.getvalue()
    assert "[bold]" in file.getvalue()


def test_a_phase_may_run_inside_another():
    console, file = _console(is_terminal=True)
    progress = make_progress(console)
    with progress.phase("train", total=2, unit="step") as outer:
        with progress.phase("valid", total=1, unit="task") as inner:
            inner.advance()
        outer.advance(2)
    with progress.phase("again", total=1, unit="step") as phase:
        phase.advance()
    assert "valid" in file.getvalue()
    assert "again" in file.getvalue()


def test_a_failing_phase_ends_and_lets_the_error_through():
    console, file = _console(is_terminal=False)
    with pytest.raises(ZeroDivisionError):
        _fail_after_two_steps(PlainProgress(console))
    assert "train: 2 step" in file.getvalue()


def _fail_after_two_steps(progress: Progress) -> None:
    with progress.phase("train", total=None, unit="step") as phase:
        phase.advance(2)
        raise ZeroDivisionError


def test_silence_takes_everything():
    _work(SilentProgress())
