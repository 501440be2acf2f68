"""Configuration of a study: arms, cold starts, budgets and test questions. Torch-free."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from arpo.conditions import only_with
from arpo.config import Config, dotted, functions_within, parse_config, read_toml, with_long_forms
from arpo.errors import ConfigError
from arpo.evaluation.config import EvalRun
from arpo.lab.study.claims_config import ClaimConfig
from arpo.lab.study.reserved_keys import reserved_key_in
from arpo.training.config import RlRun, SftRun
from arpo.world.config import DemosRun, WorldConfig

Keys = dict[str, Any]


def _written_out(cls: type[Config], keys: object) -> object:
    return with_long_forms(cls, keys) if isinstance(keys, dict) else keys


RlKeys = Annotated[Keys, BeforeValidator(partial(_written_out, RlRun))]
Seed = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]


class ArmConfig(Config):
    """One arm: an algorithm, or a control without reinforcement learning."""

    about: str = Field(examples=["GRPO at the papers' settings"])
    """What it is, in a few words."""
    kind: Literal["rl", "sft", "rejection"] = "rl"
    """`rl`: reinforcement learning. `sft`: more of the cold start's imitation, for as long as the budget arm trained.
    `rejection`: samples as many trajectories from the cold start as the budget arm sampled, then imitates the right ones for as
    long as the budget arm updated."""
    algorithm: str | None = None
    """Preset of an `rl` arm."""
    num_runs: int | None = Field(default=None, ge=1)
    """Runs, the first of the study's `runs`; None: all of them."""
    learning_rates: Annotated[tuple[Rate, ...] | None, only_with(kind="rl")] = Field(default=None, min_length=1)
    """Learning rates that this arm tries; None: the study's. A single one needs no try."""
    rates_of: Annotated[str | None, only_with(kind="rl")] = None
    """Arm whose measured branches per opportunity, by turn, become `rollout.rule.rate` of the run with the same world and seed;
    for `rollout.rule.type = "random"`."""
    rl: Annotated[RlKeys, only_with(kind="rl")] = Field(default_factory=dict)
    """Keys of `arpo config docs rl` over the study's own, nested as in TOML."""

    @model_validator(mode="after")
    def _check(self) -> "ArmConfig":
        if (self.algorithm is None) == (self.kind == "rl"):
            raise ValueError(
                f"algorithm = {self.algorithm!r} with kind = {self.kind!r}: an rl arm has one, the others none; set it or "
                f"leave it out"
            )
        return self


class StudyConfig(Config):
    """A study on the quickstart's domain and recipe: arms x runs, each from the cold start of its world."""

    runs: tuple[tuple[Seed, Seed], ...] = Field(min_length=1, examples=[[[0, 0], [1, 1]]])
    """(world, seed) of each run: `world` seeds documents, questions and cold start; `seed` every draw in training."""
    num_steps: int = Field(ge=1, examples=[40])
    """Steps after which arms are compared; an arm may train longer to use up a budget, with `num_steps` in its `rl` keys."""
    checkpoint_every: int = Field(default=5, ge=1)
    """Steps between checkpoints; each budget tests one of them at most."""
    learning_rates: tuple[Rate, ...] = ()
    """Learning rates that every rl arm tries on the first run; it takes the one with the best validation. An arm's
    `learning_rates` replace these. Empty: none is tried."""
    budget_arm: str = Field(examples=["grpo"])
    """Arm whose tool calls, sampled tokens and time over `num_steps` steps are the budgets of all."""
    num_test: int = Field(default=2000, ge=1)
    """Test questions per world; only the study's tests ask them."""
    num_samples: int = Field(default=2, ge=0)
    """Sampled answers per test question, at equal steps."""
    timing_steps: int = Field(default=0, ge=0)
    """Steps that each rl arm trains alone on the machine, to time a step; 0: no timing and no budget of time."""
    world: Annotated[Keys, BeforeValidator(partial(_written_out, WorldConfig))] = Field(default_factory=dict)
    """Keys of `arpo config docs world` over the defaults."""
    demos: Annotated[Keys, BeforeValidator(partial(_written_out, DemosRun))] = Field(default_factory=dict)
    """Keys of `arpo config docs demos` over the recipe's."""
    sft: Annotated[Keys, BeforeValidator(partial(_written_out, SftRun))] = Field(default_factory=dict)
    """Keys of `arpo config docs sft` over the recipe's, for cold starts and controls."""
    rl: RlKeys = Field(default_factory=dict)
    """Keys of `arpo config docs rl` over the recipe's, for every arm."""
    test: Annotated[Keys, BeforeValidator(partial(_written_out, EvalRun))] = Field(default_factory=dict)
    """Keys of `arpo config docs eval` over the recipe's."""
    arms: dict[str, ArmConfig] = Field(min_length=1, examples=[{"grpo": {"about": "GRPO", "algorithm": "grpo"}}])
    """Arms by name."""
    compare_with: tuple[str, ...] = ()
    """Arms that the report compares every arm with, besides the budget arm."""
    claims: dict[str, ClaimConfig] = Field(default_factory=dict)
    """Claims by name, which the report judges; a claim about an absent arm is reported as left out."""

    @model_validator(mode="after")
    def _check(self) -> "StudyConfig":
        if len(set(self.runs)) < len(self.runs):
            raise ValueError(f"runs = {list(map(list, self.runs))}: give every (world, seed) once")
        if self.num_steps % self.checkpoint_every:
            raise ValueError(
                f"num_steps = {self.num_steps} is no multiple of checkpoint_every = {self.checkpoint_every}: "
                f"there would be no checkpoint to test"
            )
        budget = self.arms.get(self.budget_arm)
        if budget is None or budget.kind != "rl" or budget.num_runs is not None:
            raise ValueError(
                f"budget_arm = {self.budget_arm!r}: name an rl arm that has all runs; arms: {', '.join(self.arms)}"
            )
        for section in ("world", "demos", "sft", "rl", "test"):
            _refuse_reserved_keys(section, section, getattr(self, section))
        if "num_steps" in self.rl:
            raise ValueError("rl.num_steps is not for this section: the study's num_steps decides it; an arm may set it")
        for name in self.compare_with:
            if name not in self.arms:
                raise ValueError(f"compare_with = {name!r} is no arm; arms: {', '.join(self.arms)}")
        for name, arm in self.arms.items():
            if (arm.num_runs or 1) > len(self.runs):
                raise ValueError(f"arms.{name}.num_runs = {arm.num_runs} exceeds the {len(self.runs)} runs of the study")
            self._check_rates(name, arm)
            self._check_arm_keys(name, arm)
        self._check_learning_rate("rl", self.rl, self.learning_rates)
        return self

    def _check_arm_keys(self, name: str, arm: ArmConfig) -> None:
        where = f"arms.{name}.rl"
        _refuse_reserved_keys("rl", where, arm.rl)
        self._check_learning_rate(where, arm.rl, self.learning_rates_of(name))
        steps = arm.rl.get("num_steps", self.num_steps)
        if isinstance(steps, int) and (steps < self.num_steps or steps % self.checkpoint_every):
            raise ValueError(
                f"{where}.num_steps = {steps}: give a multiple of checkpoint_every = {self.checkpoint_every}, and at least the "
                f"{self.num_steps} steps at which arms are compared"
            )

    def _check_learning_rate(self, where: str, keys: Keys, tried: tuple[float, ...]) -> None:
        rate = dotted(keys).get("optimizer.learning_rate")
        if tried and rate is not None:
            raise ValueError(
                f"{where}.optimizer.learning_rate = {rate!r} has no effect where learning_rates are tried; leave one out"
            )

    def _check_rates(self, name: str, arm: ArmConfig) -> None:
        if arm.rates_of is None:
            return
        source = self.arms.get(arm.rates_of)
        if source is None or source.kind != "rl" or source.rates_of is not None:
            raise ValueError(f"arms.{name}.rates_of = {arm.rates_of!r}: name an rl arm that measures rates itself")
        if len(self.runs_of(arm.rates_of)) < len(self.runs_of(name)):
            raise ValueError(f"arms.{name}.rates_of = {arm.rates_of!r}, which has fewer runs; raise its num_runs")

    def runs_of(self, arm: str) -> tuple[tuple[int, int], ...]:
        """The (world, seed) pairs of an arm."""
        return self.runs[: self.arms[arm].num_runs]

    def learning_rates_of(self, arm: str) -> tuple[float, ...]:
        """The learning rates that an arm chooses from, in ascending order; empty: it keeps its own."""
        rates = self.arms[arm].learning_rates
        return tuple(sorted(self.learning_rates if rates is None else rates))


def load_study(paths: Sequence[Path]) -> StudyConfig:
    """The study that some files make together: arms and claims are united, every other key stands in one file.

    Raises:
        ConfigError: a file cannot be read, two files set the same key or arm, or together they are no study.

    Example: `main.toml` with runs, budgets and four arms, and `more.toml` with `[arms.cispo]` alone, are a study of five arms.
    """
    united: Keys = {}
    origin: dict[str, Path] = {}
    for path in paths:
        for key, value in _flat(_located(read_toml(path), path.parent)):
            if key in origin:
                raise ConfigError(f"{path}: {key} is set by {origin[key]} too; set it in one of them")
            origin[key] = path
            section, _, name = key.partition(".")
            if name:
                united.setdefault(section, {})[name] = value
            else:
                united[section] = value
    return parse_config(StudyConfig, united, ", ".join(map(str, paths)))


_CLASSES: Mapping[str, type[Config]] = {"demos": DemosRun, "sft": SftRun, "rl": RlRun, "test": EvalRun}


def _located(keys: Keys, folder: Path) -> Keys:
    """The keys of a study's file or of an arm, with the files of functions of one's own relative to `folder` made absolute."""
    located = dict(keys)
    for name, section in keys.items():
        if not isinstance(section, dict):
            continue
        if name in _CLASSES:
            located[name] = functions_within(_CLASSES[name], with_long_forms(_CLASSES[name], section), folder)
        if name == "arms":
            located[name] = {arm: _located(own, folder) if isinstance(own, dict) else own for arm, own in section.items()}
    return located


def _refuse_reserved_keys(section: str, where: str, keys: Keys) -> None:
    if (reserved := reserved_key_in(section, keys)) is not None:
        key, decides = reserved
        raise ValueError(f"{where}.{key} is not for this section: the study's {decides} decides it; leave it out")


def _flat(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The file's keys; each arm and each claim is one key."""
    flat: list[tuple[str, Any]] = []
    for key, value in data.items():
        if key in ("arms", "claims") and isinstance(value, dict):
            flat += [(f"{key}.{name}", inner) for name, inner in value.items()]
        else:
            flat.append((key, value))
    return flat
