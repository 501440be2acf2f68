import pytest

from arpo.errors import RunError
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.folder import StudyFolder
from arpo.lab.study.job_actions import JobActions
from arpo.lab.study.jobs import Commands
from arpo.lab.study.plan import plan_study


@pytest.fixture
def jobs(study: StudyConfig, folder: StudyFolder):
    work = JobActions(study, folder, Commands(), num_threads=1)
    work.check()
    return {job.name: job for job in plan_study(study, work)}


def test_every_job_needs_jobs_that_are_there(jobs):
    assert all(need in jobs for job in jobs.values() for need in job.needs)
    assert not any(job.done() for job in jobs.values())


def test_cold_starts_and_times_come_first_then_run_by_run_the_arms_with_the_most_runs(jobs):
    assert list(jobs) == [
        "cold start 0", "test cold start 0", "cold start 1", "test cold start 1", "time arpo", "time random",
        "train arpo 0-0 at 0.0003", "train arpo 0-0 at 0.0006", "train arpo 0-0", "test arpo 0-0",
        "train random 0-0 at 0.0003", "train random 0-0 at 0.0006", "train random 0-0", "test random 0-0",
        "train more 0-0", "test more 0-0",
        "train arpo 1-5", "test arpo 1-5",
        "train random 1-5", "test random 1-5",
    ]  # fmt: skip


def test_what_each_job_waits_for(jobs):
    assert jobs["train arpo 0-0"].needs == ("train arpo 0-0 at 0.0003", "train arpo 0-0 at 0.0006")
    assert jobs["train arpo 1-5"].needs == ("cold start 1", "train arpo 0-0")
    assert jobs["train random 1-5"].needs == ("cold start 1", "train arpo 1-5", "train random 0-0")
    assert jobs["time random"].needs == ("train arpo 0-0",)
    assert jobs["test random 1-5"].needs == ("train random 1-5", "train arpo 1-5", "time random", "time arpo")
    assert jobs["train more 0-0"].needs == ("cold start 0", "train arpo 0-0")
    assert [name for name, job in jobs.items() if job.is_alone] == ["time arpo", "time random"]


def test_a_finished_training_is_known(jobs, finish):
    finish("arpo", (0, 0), 3e-4, accuracy=0.5, calls=[1] * 4)
    assert jobs["train arpo 0-0 at 0.0003"].done()
    assert not jobs["train arpo 0-0"].done()  # the other learning rate is not tried yet
    finish("arpo", (0, 0), 6e-4, accuracy=0.4, calls=[1] * 4)
    assert jobs["train arpo 0-0"].done()
    assert not jobs["test arpo 0-0"].done()


def test_a_job_run_too_early_says_what_is_missing(jobs):
    with pytest.raises(RunError, match=r"this try of arpo is not finished"):
        jobs["test arpo 0-0"].run()
