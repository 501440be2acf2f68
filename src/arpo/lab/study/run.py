"""Runs the jobs of a study that are not done yet, several at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arpo.lab.study.config import StudyConfig
from arpo.lab.study.folder import StudyFolder
from arpo.lab.study.job_actions import JobActions
from arpo.lab.study.jobs import Commands, run_jobs
from arpo.lab.study.plan import plan_study
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import RunDirectory


def run_study(study: StudyConfig, out: Path, *, at_once: int, num_threads: int, progress: Progress) -> Sequence[str]:
    """Run the jobs that are left; return why some failed.

    Args:
        study: The study; it may have more arms and runs than when it last ran.
        out: Its folder, held by one process at a time.
        at_once: Jobs at the same time.
        num_threads: CPU threads of each job; a job that measures time takes torch's default.
        progress: Counts the jobs.

    Raises:
        ConfigError: an arm makes no run.
        RunError: another process runs the study.
    """
    commands = Commands()
    with hold_study(study, out, commands, num_threads) as actions:
        return run_jobs(plan_study(study, actions), commands, at_once=at_once, progress=progress)


@contextmanager
def hold_study(study: StudyConfig, out: Path, commands: Commands, num_threads: int) -> Iterator[JobActions]:
    """Hold a study's folder and check every configuration; yield the actions of its jobs.

    Raises:
        ConfigError: an arm makes no run, or was made from other keys.
        RunError: another process runs the study.
    """
    out.mkdir(parents=True, exist_ok=True)
    with RunDirectory(out):
        actions = JobActions(study, StudyFolder(out), commands, num_threads)
        actions.check()
        yield actions
