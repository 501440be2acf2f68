"""The jobs of a study, in order of importance."""

from collections.abc import Callable, Iterator
from pathlib import Path

from arpo.lab.study.config import StudyConfig
from arpo.lab.study.folder import Run, name_of
from arpo.lab.study.job_actions import JobActions
from arpo.lab.study.jobs import Job


def plan_study(study: StudyConfig, actions: JobActions) -> list[Job]:
    """Cold starts first, then timings, then run by run, so that all arms advance at about the same pace.

    The budget arm comes first, then the arms with the most runs. An arm's first run trains at each learning rate; its other
    runs follow at the best one. A run is tested once the budget arm's run with the same world and seed has decided at which
    steps.
    """
    ordered = sorted(study.arms, key=lambda arm: (arm != study.budget_arm, -len(study.runs_of(arm))))
    pairs = [(arm, run) for run in study.runs for arm in ordered if run in study.runs_of(arm)]
    arms = (job for arm, run in pairs for job in _arm(study, actions, arm, run))
    return [*_cold_starts(study, actions), *_timings(study, actions), *arms]


def _cold_starts(study: StudyConfig, actions: JobActions) -> Iterator[Job]:
    for world in dict.fromkeys(world for world, _ in study.runs):
        made = f"cold start {world}"
        yield _job(made, lambda w=world: actions.make_cold_start(w), actions.folder.world(world) / "sft" / "summary.json")
        tested = actions.folder.cold_test(world) / "summary.json"
        yield _job(f"test {made}", lambda w=world: actions.test_cold_start(w), tested, needs=(made,))


def _timings(study: StudyConfig, actions: JobActions) -> Iterator[Job]:
    first = study.runs[0]
    for name, arm in study.arms.items():
        if arm.kind == "rl" and study.timing_steps:
            after = f"cold start {first[0]}" if arm.rates_of is None else _trained(arm.rates_of, first)
            done = actions.folder.timing(name) / "summary.json"
            yield _job(f"time {name}", lambda a=name: actions.time_steps(a), done, needs=(after,), is_alone=True)


def _arm(study: StudyConfig, actions: JobActions, name: str, run: Run) -> Iterator[Job]:
    yield from _trainings(study, actions, name, run)
    yield Job(
        name=f"test {name} {name_of(run)}",
        run=lambda: actions.test(name, run),
        done=lambda: actions.is_tested(name, run),
        needs=tuple(dict.fromkeys((_trained(name, run), _trained(study.budget_arm, run), *_timed(study, name)))),
    )


def _timed(study: StudyConfig, name: str) -> tuple[str, ...]:
    if not study.timing_steps or study.arms[name].kind != "rl":
        return ()
    return tuple(dict.fromkeys((f"time {name}", f"time {study.budget_arm}")))


def _trainings(study: StudyConfig, actions: JobActions, name: str, run: Run) -> Iterator[Job]:
    """One training, or on the first run one per learning rate and the choice among them."""
    arm, first, trained = study.arms[name], study.runs[0], _trained(name, run)
    needs = [f"cold start {run[0]}"]
    if arm.kind != "rl":
        needs.append(_trained(study.budget_arm, run))
    if arm.rates_of is not None:
        needs.append(_trained(arm.rates_of, run))
    rates = study.learning_rates_of(name) if arm.kind == "rl" else ()
    if rates and run == first:
        tries = [f"{trained} at {rate:g}" for rate in rates]
        for title, rate in zip(tries, rates, strict=True):
            done = actions.folder.training(name, run, rate) / "summary.json"
            yield _job(title, lambda r=rate: actions.train(name, run, r), done, needs=tuple(needs))
        needs = tries
    elif rates:
        needs.append(_trained(name, first))
    yield Job(
        name=trained,
        run=lambda: actions.train_at_best(name, run),
        done=lambda: actions.finished.is_trained(name, run),
        needs=tuple(dict.fromkeys(needs)),
    )


def _trained(name: str, run: Run) -> str:
    return f"train {name} {name_of(run)}"


def _job(name: str, run: Callable[[], None], done: Path, *, needs: tuple[str, ...] = (), is_alone: bool = False) -> Job:
    return Job(name=name, run=run, done=done.exists, needs=needs, is_alone=is_alone)
