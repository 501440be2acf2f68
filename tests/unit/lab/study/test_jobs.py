import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arpo.errors import ArpoError, ConfigError, RunError
from arpo.lab.study.jobs import Commands, Job, run_jobs
from arpo.tracking.progress import SilentProgress


class Workshop:
    """Jobs that note when they run, beside which others, and leave a file."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.order: list[str] = []
        self.beside: dict[str, set[str]] = {}
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def job(
        self, name: str, *needs: str, is_alone: bool = False, fails: ArpoError | None = None,
        wait_for: threading.Event | None = None,
    ) -> Job:  # fmt: skip
        def run() -> None:
            with self._lock:
                self.order.append(name)
                self._running.add(name)
                for other in self._running:
                    self.beside.setdefault(other, set()).update(self._running - {other})
            if wait_for is not None:
                assert wait_for.wait(10)
            with self._lock:
                self._running.discard(name)
            if fails is not None:
                raise fails
            (self.folder / name).touch()

        return Job(name=name, run=run, done=(self.folder / name).exists, needs=needs, is_alone=is_alone)

    def run(self, *jobs: Job, at_once: int = 1) -> list[str]:
        return run_jobs(jobs, Commands(), at_once=at_once, progress=SilentProgress())


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_job_waits_for_what_it_needs_and_earlier_ones_come_first(workshop: Workshop):
    job = workshop.job
    assert workshop.run(job("c", "a", "b"), job("d"), job("b"), job("a")) == []
    # c is not ready; of d, b, a the first comes; after a, c is ready
    assert workshop.order == ["d", "b", "a", "c"]


def test_what_is_done_is_not_done_again(workshop: Workshop):
    workshop.run(workshop.job("a"))
    workshop.run(workshop.job("a"), workshop.job("b", "a"))
    assert workshop.order == ["a", "b"]


@pytest.mark.parametrize("error", [RunError, ConfigError])
def test_a_failed_job_takes_those_that_need_it_with_it_and_no_others(workshop: Workshop, error: type[ArpoError]):
    job = workshop.job
    failures = workshop.run(job("a", fails=error("no luck")), job("b", "a"), job("c", "b"), job("d"))
    assert workshop.order == ["a", "d"]
    assert failures == [
        "a: no luck", "b: not run, as it needs a failed one", "c: not run, as it needs a failed one",
    ]  # fmt: skip
    assert workshop.run(job("a"), job("b", "a"), job("c", "b"), job("d")) == []
    assert workshop.order == ["a", "d", "a", "b", "c"]


def test_several_run_at_once_and_one_that_measures_time_runs_alone(workshop: Workshop):
    job, both = workshop.job, threading.Event()

    def second() -> None:
        both.set()

    meets = Job(name="y", run=second, done=lambda: False)
    assert workshop.run(job("x", wait_for=both), meets, job("t", is_alone=True), job("z"), at_once=2) == []
    assert workshop.beside["t"] == set()
    assert workshop.order == ["x", "t", "z"]


def test_a_bug_is_no_failed_job(workshop: Workshop):
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workshop.run(Job(name="a", run=broken, done=lambda: False))


def test_a_command_that_fails_names_its_log(tmp_path: Path):
    log = tmp_path / "logs" / "a.log"
    with pytest.raises(RunError, match=r"arpo train nothing\.toml: ended with exit code 2; see .*a\.log"):
        Commands().arpo("train", "nothing.toml", log=log)
    assert log.read_text().startswith("$ arpo train nothing.toml\n")
    assert "nothing.toml: cannot read this configuration" in log.read_text()


def test_a_stop_ends_commands_and_starts_no_more(tmp_path: Path):
    commands, ended = Commands(), threading.Event()

    def run() -> None:
        with pytest.raises(RunError, match="exit code -15"):
            commands.arpo("quickstart", "--out", tmp_path / "q", log=tmp_path / "log")
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: bool(commands._running))
    commands.stop()
    assert ended.wait(20)
    thread.join()
    with pytest.raises(RunError, match="not started, the study was stopped"):
        commands.arpo("doctor", log=tmp_path / "log")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
