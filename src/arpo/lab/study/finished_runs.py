"""What the finished runs of a study decide for later ones: the best learning rate, branch rates and budgets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from arpo.errors import RunError
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.costs import Reached, cumulative, reach
from arpo.lab.study.folder import Run, StudyFolder, name_of
from arpo.tracking import read_metrics
from arpo.tree import read_trees
from arpo.tree.statistics import TreeStatistics

BUDGETS = ("tool_calls", "sampled_tokens", "time")
"""Points of comparison besides equal steps."""


class Seconds(NamedTuple):
    """Time of a training over the steps at which arms are compared."""

    total: float
    update: float
    """The updates' part of `total`."""


class FinishedRuns:
    """Reads the runs of a study."""

    def __init__(self, study: StudyConfig, folder: StudyFolder):
        self._study = study
        self._folder = folder

    def best_rate(self, arm: str) -> float | None:
        """The learning rate of the arm's first run with the best validation at `num_steps`, the smaller of equal ones.

        None where the arm tries none and takes that of the recipe or of its `rl` keys.

        Raises:
            RunError: a try is not finished.
        """
        accuracies: dict[float, float] = {}
        for rate, accuracy in self.tried_rates(arm).items():
            if accuracy is None:
                raise RunError(f"{self._folder.training(arm, self._study.runs[0], rate)}: this try of {arm} is not finished")
            accuracies[rate] = accuracy
        return max(accuracies, key=accuracies.__getitem__) if accuracies else None

    def tried_rates(self, arm: str) -> dict[float, float | None]:
        """Learning rate -> validation accuracy of its try, in ascending order; None: not finished."""
        return {rate: self._accuracy(arm, rate) for rate in self._study.learning_rates_of(arm)}

    def training(self, arm: str, run: Run) -> Path:
        """The run directory of a finished training, for an rl arm at its best learning rate.

        Raises:
            RunError: it is not finished.
        """
        rate = self.best_rate(arm) if self._study.arms[arm].kind == "rl" else None
        where = self._folder.training(arm, run, rate)
        if not (where / "summary.json").is_file():
            raise RunError(f"{where}: this training of {arm} is not finished")
        return where

    def is_trained(self, arm: str, run: Run) -> bool:
        """Whether the training is finished."""
        try:
            return bool(self.training(arm, run))
        except RunError:
            return False

    def metrics(self, arm: str, run: Run) -> list[dict[str, Any]]:
        """A row per step of a finished training."""
        return read_metrics(self.training(arm, run))

    def step_seconds(self, arm: str) -> float | None:
        """Mean seconds of an arm's step alone on the machine, without the first step; None: not timed."""
        where = self._folder.timing(arm)
        if not (where / "summary.json").is_file():
            return None
        rows = read_metrics(where)
        return fmean(row["time/step_s"] for row in (rows[1:] or rows))

    def budgets(self, arm: str, run: Run) -> dict[str, Reached | None]:
        """Budget -> the last checkpoint of the arm within what the budget arm had spent after `num_steps` steps.

        The budget arm's run has the same world and seed. A budget is absent where the cost of either run is unknown.
        """
        mine, theirs = self._spent(arm, run), self._spent(self._study.budget_arm, run)
        return {
            name: reach(mine[name], theirs[name][self._study.num_steps - 1], self._study.checkpoint_every)
            for name in BUDGETS
            if name in mine and name in theirs
        }

    def seconds(self, arm: str, run: Run) -> Seconds:
        """The seconds of a training, on a machine that it may have shared."""
        rows = self.metrics(arm, run)[: self._study.num_steps]
        return Seconds(sum(row["time/step_s"] for row in rows), sum(row["time/update_s"] for row in rows))

    def rates_by_turn(self, arm: str, run: Run) -> list[float]:
        """Branches per tool result that had leaves left to give: of the first tool result of a path, the second and so on."""
        statistics = TreeStatistics(window=1)
        for file in sorted((self.training(arm, run) / "rollouts").glob("*.jsonl.zst")):
            for tree in read_trees(file):
                statistics.add(tree)
        rates = [turn["branch_rate"] for turn in statistics.summary()["branch_rate_by_turn"] if turn["turn"] > 0]
        if not rates:
            raise RunError(f"{arm} {name_of(run)}: its saved trees show no tool result at which it could have branched")
        return [min(1.0, rate or 0.0) for rate in rates]

    def _spent(self, arm: str, run: Run) -> dict[str, list[float]]:
        rows = self.metrics(arm, run)
        spent = {name: cumulative(rows, name) for name in ("tool_calls", "sampled_tokens")}
        step_s = self.step_seconds(arm)
        return spent if step_s is None else spent | {"time": [step_s * (index + 1) for index in range(len(rows))]}

    def _accuracy(self, arm: str, rate: float) -> float | None:
        where = self._folder.training(arm, self._study.runs[0], rate)
        rows: Sequence[Mapping[str, Any]] = read_metrics(where) if (where / "summary.json").is_file() else ()
        return next((row["valid/accuracy"] for row in rows if row["step"] == self._study.num_steps), None)
