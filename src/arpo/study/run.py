"""Runs a study: what is not done yet, several jobs at once; then the tables and figures of all that is done."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arpo.study.config import StudyConfig
from arpo.study.folder import StudyFolder
from arpo.study.job_actions import JobActions
from arpo.study.jobs import Commands, run_jobs
from arpo.study.plan import plan_study
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import RunDirectory


def run_study(study: StudyConfig, out: Path, *, at_once: int, num_threads: int, progress: Progress) -> Sequence[str]:
    """Do what is left of the study; return why jobs failed.

    Args:
        study: The study; arms and runs may have been added since it was last run.
        out: Its folder, held by one process at a time.
        at_once: Jobs at the same time.
        num_threads: CPU threads of each job; one that measures time takes what torch chooses.
        progress: Where jobs are counted.

    Raises:
        ConfigError: an arm makes no run.
        RunError: another process runs the study.
    """
    commands = Commands()
    with hold_study(study, out, commands, num_threads) as work:
        return run_jobs(plan_study(study, work), commands, at_once=at_once, progress=progress)


@contextmanager
def hold_study(study: StudyConfig, out: Path, commands: Commands, num_threads: int) -> Iterator[JobActions]:
    """The work of a study whose folder is held, and whose every configuration has been made.

    Raises:
        ConfigError: an arm makes no run, or was made from other keys.
        RunError: another process runs the study.
    """
    out.mkdir(parents=True, exist_ok=True)
    with RunDirectory(out):
        work = JobActions(study, StudyFolder(out), commands, num_threads)
        work.check()
        yield work
