"""Reads the results of a study so far: answers of tested policies at each point, and metrics of trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from arpo.errors import DataError
from arpo.evaluation.pass_at_k import pass_at_k
from arpo.evaluation.records import read_records
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.costs import Reached, cumulative
from arpo.lab.study.finished_runs import FinishedRuns
from arpo.lab.study.folder import Run, StudyFolder, name_of
from arpo.lab.study.training_metrics import NO_TRAINING, TrainingMetrics, measure_training

Floats = NDArray[np.float64]

COLD_START = "cold start"
"""Name of the policies that all arms start from, in tables and records; its space keeps it apart from names of arms."""


@dataclass(slots=True, frozen=True, kw_only=True)
class QuestionAnswers:
    """The answers of a test, in the order of the questions' ids."""

    task_ids: tuple[str, ...]
    num_samples: Sequence[int]
    """[Q] sampled answers."""
    num_right: Sequence[int]
    """[Q] right ones of them."""
    metrics: Mapping[str, Floats]
    """Name of `QUESTION_MEASURES` -> [Q] values; a metric that the test has not is absent."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PolicyTest:
    """The test of a policy."""

    step: int
    """Training step of the policy; 0 without reinforcement learning."""
    reached: Reached | None = None
    """The checkpoint of the budget; None at equal steps, and for policies without steps."""
    tool_calls: float | None = None
    """Tool calls issued in training by then; None for policies without steps."""
    answers: QuestionAnswers

    @property
    def is_short(self) -> bool:
        """Whether the run ended before its budget did."""
        return self.reached is not None and self.reached.is_short

    @property
    def accuracy(self) -> float:
        """Share of the questions answered exactly, greedily."""
        return float(self.answers.metrics["accuracy"].mean())


@dataclass(slots=True, frozen=True, kw_only=True)
class RunResult:
    """A run of an arm so far."""

    world: int
    seed: int | None
    """None for a cold start; a world has one."""
    tests: Mapping[str, PolicyTest]
    """Test by point; a cold start has the point `start`."""
    training: TrainingMetrics = NO_TRAINING

    @property
    def name(self) -> str:
        """World and seed, as in the names of folders."""
        return str(self.world) if self.seed is None else name_of((self.world, self.seed))


@dataclass(slots=True, frozen=True, kw_only=True)
class ArmResult:
    """An arm, or the cold starts."""

    name: str
    about: str
    num_planned: int
    """Planned runs."""
    runs: Sequence[RunResult]
    """Runs whose training is finished."""
    learning_rate: float | None = None
    """The chosen one; None where the arm tries none, or has not finished its tries."""
    tried: Mapping[float, float | None]
    """Learning rate -> validation accuracy on the first run; None where the try is not finished."""
    step_seconds: float | None = None
    """Seconds of a step alone on the machine; None: not timed."""


def read_study(study: StudyConfig, folder: StudyFolder) -> list[ArmResult]:
    """Read the cold starts, then every arm of the study with its finished runs.

    Raises:
        DataError: a file is damaged, or tests of one world have different questions.
    """
    reader = _Reader(study, folder)
    arms = [reader.cold_starts(), *map(reader.arm, study.arms)]
    _check_questions(arms)
    return arms


class _Reader:
    def __init__(self, study: StudyConfig, folder: StudyFolder):
        self._study = study
        self._folder = folder
        self._finished = FinishedRuns(study, folder)

    def cold_starts(self) -> ArmResult:
        worlds = list(dict.fromkeys(world for world, _ in self._study.runs))
        tests = {world: self._control_test(self._folder.cold_test(world)) for world in worlds}
        runs = [RunResult(world=world, seed=None, tests={"start": test}) for world, test in tests.items() if test]
        return ArmResult(
            name=COLD_START, about="imitation of the demonstrations; every arm starts here", num_planned=len(worlds), runs=runs,
            tried={},
        )  # fmt: skip

    def arm(self, name: str) -> ArmResult:
        config, finished = self._study.arms[name], self._finished
        planned = self._study.runs_of(name)
        trained = [run for run in planned if finished.is_trained(name, run)]
        is_rl = config.kind == "rl"
        return ArmResult(
            name=name,
            about=config.about,
            num_planned=len(planned),
            runs=[self._run(name, run) for run in trained],
            learning_rate=finished.best_rate(name) if is_rl and trained else None,
            tried=finished.tried_rates(name) if is_rl else {},
            step_seconds=finished.step_seconds(name) if is_rl else None,
        )

    def _run(self, arm: str, run: Run) -> RunResult:
        if self._study.arms[arm].kind == "rl":
            training = measure_training(self._finished.training(arm, run), self._study.num_steps)
            return RunResult(world=run[0], seed=run[1], tests=self._tests(arm, run), training=training)
        test = self._control_test(self._folder.test(arm, run, 0))
        return RunResult(world=run[0], seed=run[1], tests={"time": test} if test else {})

    def _tests(self, arm: str, run: Run) -> dict[str, PolicyTest]:
        """The test at each tested point."""
        budgets = self._finished.budgets(arm, run) if self._finished.is_trained(self._study.budget_arm, run) else {}
        steps = {"steps": self._study.num_steps} | {point: reached.step for point, reached in budgets.items() if reached}
        folders = {step: self._folder.test(arm, run, step) for step in set(steps.values())}
        answers = {step: read_answers(folder) for step, folder in folders.items() if _is_finished(folder)}
        calls = cumulative(self._finished.metrics(arm, run), "tool_calls")
        return {
            point: PolicyTest(step=step, reached=budgets.get(point), tool_calls=calls[step - 1], answers=answers[step])
            for point, step in steps.items()
            if step in answers
        }

    def _control_test(self, folder: Path) -> PolicyTest | None:
        return PolicyTest(step=0, answers=read_answers(folder)) if _is_finished(folder) else None


def _is_finished(evaluation: Path) -> bool:
    return (evaluation / "summary.json").is_file()


def read_answers(where: Path) -> QuestionAnswers:
    """The answers of a finished evaluation.

    Raises:
        DataError: its records cannot be read.
    """
    greedy: dict[str, float] = {}
    sampled: dict[str, list[bool]] = {}
    for record in read_records(where):
        if record.mode == "greedy":
            greedy[record.task_id] = float(record.is_correct is True)
        else:
            sampled.setdefault(record.task_id, []).append(record.is_correct is True)
    ids = tuple(sorted(greedy))
    samples = [sampled.get(task, []) for task in ids]
    metrics = {"accuracy": np.array([greedy[task] for task in ids])}
    k = min(map(len, samples), default=0)
    if k:
        metrics["sampled_accuracy"] = np.array([fmean(right) for right in samples])
        metrics["pass_at_k"] = np.array([pass_at_k(len(right), sum(right), k) for right in samples])
    return QuestionAnswers(
        task_ids=ids, num_samples=[*map(len, samples)], num_right=[*map(sum, samples)], metrics=metrics,
    )  # fmt: skip


def _check_questions(arms: Sequence[ArmResult]) -> None:
    """Check that all tests of a world have the same questions, as they are compared question by question."""
    asked: dict[int, tuple[str, tuple[str, ...]]] = {}
    for arm in arms:
        for run in arm.runs:
            for test in run.tests.values():
                name, ids = asked.setdefault(run.world, (f"{arm.name} {run.name}", test.answers.task_ids))
                if ids != test.answers.task_ids:
                    raise DataError(
                        f"tests of world {run.world}: {arm.name} {run.name} has {len(test.answers.task_ids)} questions, {name} "
                        f"has {len(ids)} different ones; was num_test changed? Delete tests/ of one of them and run again"
                    )
