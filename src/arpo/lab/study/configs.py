"""The configurations that a study writes: those of its recipe with the study's keys on top, moved into its folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from arpo.config import Config, merge_keys, parse_config
from arpo.evaluation.config import EvalRun, RolloutRun
from arpo.files.whole import write_text
from arpo.lab.study.config import Keys, StudyConfig
from arpo.lab.study.folder import Run, StudyFolder
from arpo.recipes import read_recipe_in
from arpo.training.config import RlRun, SftRun
from arpo.world.config import DemosRun


class StudyConfigs:
    """Makes the keys of each command of a study, and parses them, so that the command will accept them."""

    def __init__(self, study: StudyConfig, folder: StudyFolder, num_threads: int):
        self._study = study
        self._folder = folder
        self._num_threads = num_threads

    def demonstrations(self, world: int) -> Keys:
        """Keys of `arpo demos`."""
        return _checked(DemosRun, merge_keys(self._recipe("demos", world), {"seed": world} | self._study.demos), "demos")

    def cold_start(self, world: int) -> Keys:
        """Keys of `arpo sft` for the policy all arms of a world start from."""
        keys = merge_keys(self._recipe("sft", world), {"seed": world, "num_threads": self._num_threads} | self._study.sft)
        return _checked(SftRun, keys, "sft")

    def training(self, arm: str, run: Run, rate: float | None, rates_by_turn: Sequence[float] | None = None) -> Keys:
        """Keys of `arpo train` for an arm; `rate` None keeps the learning rate of the recipe or of the arm's `rl` keys.

        Raises:
            ConfigError: the keys make no run.
        """
        study, config = self._study, self._study.arms[arm]
        keys = self._recipe("rl", run[0])
        keys.pop("rollouts_every", None)
        study_keys: Keys = {
            "algorithm": config.algorithm, "seed": run[1], "num_threads": self._num_threads, "num_steps": study.num_steps,
            "rollouts_every": study.checkpoint_every,
            "checkpoint": {"every": study.checkpoint_every, "keep": 1_000_000},
            "validation": {"every": study.num_steps},
        }  # fmt: skip
        for layer in (study_keys, study.rl, config.rl):
            keys = merge_keys(keys, layer)
        if rate is not None:
            keys = merge_keys(keys, {"optimizer": {"learning_rate": rate}})
        if rates_by_turn is not None:
            keys = merge_keys(keys, {"rollout": {"rule": {"rate": list(rates_by_turn)}}})
        out = self._folder.training(arm, run, rate)
        cache = {"agent": {"tools": {"cache": {"path": str(out / "tool_results.sqlite")}}}}  # each run pays for its calls
        return _checked(RlRun, merge_keys(keys, cache) | {"out": str(out)}, f"arms.{arm}")

    def num_trajectories(self, arm: str, run: Run) -> int:
        """Trajectories that an arm samples over the study's `num_steps`."""
        config = parse_config(RlRun, self.training(arm, run, None), f"arms.{arm}")
        return self._study.num_steps * config.tasks_per_step * config.rollout.group_size

    def timing(self, arm: str, rates_by_turn: Sequence[float] | None = None) -> Keys:
        """Keys of `arpo train` for a few steps of an arm alone on the machine."""
        keys = self.training(arm, self._study.runs[0], None, rates_by_turn)
        del keys["validation"], keys["num_threads"]
        out = self._folder.timing(arm)
        keys["agent"]["tools"]["cache"]["path"] = str(out / "tool_results.sqlite")
        return keys | {"out": str(out), "num_steps": self._study.timing_steps, "rollouts_every": 0}

    def test(self, arm: str, run: Run, step: int, model: Path) -> Keys:
        """Keys of `arpo eval` for one policy; with samples at the study's `num_steps` and for controls, else greedy alone."""
        is_main = step in (0, self._study.num_steps)
        return self._test(run[0], self._folder.test(arm, run, step), model, self._study.num_samples if is_main else 0)

    def cold_test(self, world: int) -> Keys:
        """Keys of `arpo eval` for a cold start."""
        return self._test(world, self._folder.cold_test(world), self._folder.cold_start(world), self._study.num_samples)

    def imitation(self, arm: str, run: Run, data: Path, max_seconds: float) -> Keys:
        """Keys of `arpo sft` for a control, which starts from the cold start."""
        keys = merge_keys(self._recipe("sft", run[0]), self._study.sft) | {
            "out": str(self._folder.training(arm, run, None)), "data": str(data), "seed": run[1],
            "num_threads": self._num_threads, "max_seconds": max_seconds, "num_epochs": 20,
            "model": {"path": str(self._folder.cold_start(run[0]))},
        }  # fmt: skip
        return _checked(SftRun, keys, f"arms.{arm}")

    def sampling(self, arm: str, run: Run, num_tasks: int, group_size: int) -> Keys:
        """Keys of `arpo rollout` that samples the cold start on training questions, independently."""
        training = self._recipe("rl", run[0])
        keys: Keys = {
            "out": str(self._folder.samples(arm, run)), "seed": run[1],
            "num_threads": self._num_threads, "tasks": training["tasks"], "num_tasks": num_tasks, "agent": training["agent"],
            "model": {"path": str(self._folder.cold_start(run[0]))}, "reward": training.get("reward", {}),
            "rollout": {"group_size": group_size, "rule": {"type": "none"}},
        }  # fmt: skip
        return _checked(RolloutRun, keys, f"arms.{arm}")

    def _test(self, world: int, out: Path, model: Path, num_samples: int) -> Keys:
        keys = merge_keys(self._recipe("eval", world), self._study.test)
        keys = merge_keys(keys, {
            "out": str(out), "model": {"path": str(model)}, "num_threads": self._num_threads, "num_samples": num_samples,
            "num_tasks": self._study.num_test,
            "agent": {"tools": {"cache": {"path": str(self._folder.tool_cache(world))}}},
        })  # fmt: skip
        return _checked(EvalRun, keys, "test")

    def _recipe(self, kind: str, world: int) -> Keys:
        return read_recipe_in(self._folder.world(world), "quickstart", kind)


def _checked(cls: type[Config], keys: Keys, where: str) -> Keys:
    parse_config(cls, keys, where)
    return keys


def write_config(path: Path, keys: dict[str, Any]) -> Path:
    """Write a command's keys as TOML."""
    return write_text(path, tomli_w.dumps(keys))


def to_toml(value: Any) -> str:
    """A value as a command line writes it.

    Example: {"mayor": 2.0} -> '{"mayor" = 2.0}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {to_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)
