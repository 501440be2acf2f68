import io
from threading import RLock

import pytest
from rich.console import Console
from rich.progress import ProgressSample, Task, TaskID

from arpo.tracking.console import BarProgress, PlainProgress, TimeLeftColumn, make_progress, shown_progress
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


def test_silence_prints_nothing(capsys: pytest.CaptureFixture[str]):
    _work(SilentProgress())
    assert capsys.readouterr() == ("", "")


def test_what_was_done_before_does_not_count_for_the_time_left(monkeypatch: pytest.MonkeyPatch):
    """98 of 100 done before; one more took 10 s, so the last takes another 10 s and not 10 / 99."""
    console, file = _console(is_terminal=False)
    with monkeypatch.context() as patch:
        clock = iter([0.0, *[10.0] * 9])
        patch.setattr("arpo.tracking.console.time.monotonic", lambda: next(clock))
        with PlainProgress(console).phase("eval", 100, "task", 98) as phase:
            phase.advance()
    assert "eval: 99/100 task, 10 s, eta 10 s" in file.getvalue()


def test_a_bar_starts_where_the_work_goes_on():
    console, file = _console(is_terminal=True)
    with BarProgress(console).phase("eval", 100, "task", 98):
        pass
    assert "98/100" in file.getvalue()


def test_a_limit_of_time_bounds_the_time_left(monkeypatch: pytest.MonkeyPatch):
    """10 of 100 in 10 s leave 90 s by the speed; the limit of 30 s leaves 20."""
    console, file = _console(is_terminal=False)
    with monkeypatch.context() as patch:
        clock = iter([0.0, *[10.0] * 9])
        patch.setattr("arpo.tracking.console.time.monotonic", lambda: next(clock))
        with PlainProgress(console).phase("sft", 100, "update", max_seconds=30) as phase:
            phase.advance(10)
    assert "eta 20 s" in file.getvalue()


@pytest.mark.parametrize(("max_seconds", "shown"), [(None, "0:01:30"), (30.0, "0:00:20"), (5.0, "0:00:00"), (500.0, "0:01:30")])
def test_a_bar_shows_the_lesser_time(max_seconds: float | None, shown: str):
    """The same on a terminal: by the speed 90 s are left."""
    now = [0.0]
    task = Task(
        TaskID(0), "sft", 100, 0, _get_time=lambda: now[0], _lock=RLock(), fields={"max_seconds": max_seconds},
    )  # fmt: skip
    task.start_time = 0.0
    task._progress.extend([ProgressSample(0.0, 0.0), ProgressSample(10.0, 10.0)])
    task.completed, now[0] = 10, 10.0
    assert TimeLeftColumn().render(task).plain == shown


def test_a_run_from_python_shows_its_progress(capsys):
    progress = shown_progress()
    progress.line("step 1 of 2")
    _work(progress)
    shown = capsys.readouterr()
    assert "step 1 of 2" in shown.err
    assert "train: 3/3 step" in shown.err
    assert shown.out == ""
