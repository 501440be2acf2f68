"""Jobs with dependencies, several at a time; a finished job stays finished."""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from arpo.errors import ArpoError, RunError
from arpo.tracking.progress import Progress


@dataclass(slots=True, frozen=True, kw_only=True)
class Job:
    """One piece of work, which may be stopped at any moment and run again."""

    name: str
    """Unique, e.g. "train arpo 0-1"."""
    run: Callable[[], None]
    """Does the work; raises an ArpoError when it fails."""
    done: Callable[[], bool]
    """Whether the work is done, by this process or an earlier one."""
    needs: tuple[str, ...] = ()
    """Names of the jobs that must finish first."""
    is_alone: bool = False
    """Runs only while no other job does, because it measures time."""


class Commands:
    """Runs arpo commands, each in a process; output goes to log files."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    def arpo(self, *argv: object, log: Path) -> None:
        """Run `arpo argv` and append its output to `log`.

        Raises:
            RunError: it failed, or `stop` was called.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"$ arpo {' '.join(map(str, argv))}\n".encode())
            output.flush()
            with self._lock:
                if self._is_stopped:
                    raise RunError(f"arpo {argv[0]}: not started, the study was stopped")
                process = subprocess.Popen(
                    [sys.executable, "-m", "arpo.cli.main", *map(str, argv)],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
                self._running.add(process)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        if code:
            raise RunError(f"arpo {' '.join(map(str, argv))}: ended with exit code {code}; see {log}")

    def stop(self) -> None:
        """End what runs, and refuse to start anything."""
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                process.terminate()


def run_jobs(jobs: Sequence[Job], commands: Commands, *, at_once: int, progress: Progress) -> list[str]:
    """Run the jobs that are not done, in order, each once what it needs is done; return why some failed.

    Jobs that need a failed one do not run; all others do.

    Args:
        jobs: In order of importance.
        commands: Stopped on an interruption.
        at_once: Jobs at the same time.
        progress: Counts the jobs.
    """
    finished = {job.name for job in jobs if job.done()}
    waiting = [job for job in jobs if job.name not in finished]
    failures: dict[str, str] = {}
    running: dict[Future[None], Job] = {}
    with (
        progress.phase("study", len(jobs), "job", len(finished)) as phase,
        ThreadPoolExecutor(at_once) as pool,
    ):
        try:
            while waiting or running:
                waiting = [job for job in waiting if not failures.keys() & job.needs]
                for job in _startable(waiting, finished, list(running.values()), at_once):
                    progress.line(f"{job.name}: begins")
                    running[pool.submit(job.run)] = job
                    waiting.remove(job)
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        future.result()
                    except ArpoError as error:
                        failures[job.name] = str(error)
                        progress.line(f"{job.name}: failed. {error}")
                        continue
                    finished.add(job.name)
                    phase.advance(1)
        except BaseException:  # raised again, Ctrl-C too; the pool waits for its threads, which wait for their commands
            commands.stop()
            raise
    skipped = [job.name for job in jobs if job.name not in finished and job.name not in failures]
    return [f"{name}: {why}" for name, why in failures.items()] + [
        f"{name}: not run, as it needs a failed one" for name in skipped
    ]


def _startable(waiting: Sequence[Job], finished: set[str], running: Sequence[Job], at_once: int) -> list[Job]:
    """The jobs to start now: the first that are ready; a job that runs alone holds back all after it until it has run."""
    chosen: list[Job] = []
    for job in waiting:
        busy = len(running) + len(chosen)
        if busy >= at_once or any(job.is_alone for job in (*running, *chosen)):
            break
        if not finished.issuperset(job.needs):
            continue
        if job.is_alone and busy:
            break
        chosen.append(job)
    return chosen
