"""Configuration of evaluations and of rollouts without training. Torch-free."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from arpo.conditions import above, only_with
from arpo.config import Config
from arpo.data.benchmarks import find_benchmark
from arpo.distributed.config import DistributedConfig
from arpo.inference.config import EngineConfig, TransformersEngineConfig, require_deterministic, require_sampled_tokens
from arpo.models.config import ModelConfig
from arpo.rewards.config import RewardConfig
from arpo.rewards.graders import GRADERS, POLICED
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy
from arpo.rollout.config import AgentConfig, RolloutConfig

_UNSAID = ("auto", "cpu")
"""Devices of an engine that finds its own: the default, and the former one, which records of runs have."""


class PolicyRun(Config):
    """A policy on a file of tasks, without training."""

    out: Path = Field(examples=["runs/mine_eval"])
    """Folder to write."""
    seed: int = 0
    """Names the random streams."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice."""
    tasks: Path = Field(examples=["my_tasks.jsonl"])
    """Tasks: a file, a folder or a data set of the hub, see docs/data.md."""
    num_tasks: int | None = Field(default=None, ge=1)
    """First tasks of the file; None: all."""
    max_live_trajectories: int = Field(default=128, ge=1)
    """Trajectories sampled at the same time, in whole tasks."""
    agent: AgentConfig = Field(examples=[{"tools": {"python": {}}}])
    """Protocol, tools and limits: those of training."""
    engine: EngineConfig = TransformersEngineConfig()
    """Engine that samples the trajectories."""

    def _refuse_device(self, model: ModelConfig | None) -> None:
        if model is not None and not self.engine.takes_device and model.device not in _UNSAID:
            raise ValueError(
                f"model.device = {model.device!r} has no effect with engine.type = {self.engine.type!r}, which finds its own "
                "device; leave it out"
            )


class EvalRun(PolicyRun):
    """Greedy and sampled answers and their grades: `records.jsonl`, one line per answer, metrics and reports."""

    model: ModelConfig | None = None
    """The policy; for a served one, its tokenizer. None: a server with `engine.api = "chat"`."""
    greedy: bool = True
    """Answer each task once at temperature 0; the headline is of these answers, else of the sampled ones."""
    num_samples: int = Field(default=4, ge=0)
    """Sampled answers per task, k of pass@k; 0: none."""
    temperature: Annotated[float, only_with(num_samples=above(0))] = Field(default=1.0, gt=0)
    """Temperature of the sampled answers."""
    reward: RewardConfig = RewardConfig()
    """The reward of training; it also measures `exact_match` and `f1` of the boxed answer."""
    benchmark: str | None = None
    """Benchmark (`arpo benchmarks` lists them) whose file `tasks` must be; None: any file of tasks."""
    grader: str | None = None
    """Grader of the headline, `score`, by its name in `arpo.rewards.graders`; it also finds answers without a box. None: the
    benchmark's, and without a benchmark `accuracy`, the share of right answers as the reward grades them. With `reward.judge`
    the verdict is the headline and is compared with the grader."""
    grading: GradingPolicy | None = None
    """What a unit, a percent sign or a base counts for `grader` that one of answer and reference lacks: `strict` or
    `lenient`, see docs/rewards.md. None: the benchmark's, and without a benchmark `lenient`."""
    max_failed_share: float = Field(default=0.5, ge=0, lt=1)
    """Largest share of a mode's questions that may fail (a server refuses or filters one, or a prompt leaves no room); more end
    the run. Among the first 20 questions the share is of 20, or of all where there are fewer. A failed question counts in no
    figure, stands in `failures.jsonl`, and is asked again by `--resume`."""
    deterministic: bool = True
    """Fix the composition of the engine's batches, so that two evaluations give identical answers, also when one is resumed:
    tasks are sampled in blocks of four times `max_live_trajectories`, and an unfinished block is sampled again from its start
    (its finished answers stay). False: a resumed run samples missing questions alone."""

    distributed: DistributedConfig = DistributedConfig()
    """Several processes, started by torchrun."""

    @model_validator(mode="after")
    def _check(self) -> "EvalRun":
        if self.deterministic:
            require_deterministic(self.engine, "deterministic")
        if not self.greedy and not self.num_samples:
            raise ValueError("greedy = false with num_samples = 0: there are no answers; set one of them")
        if self.headline_grader not in (None, *GRADERS):
            raise ValueError(f"grader = {self.headline_grader!r}: use {', '.join(GRADERS)}, or leave it out")
        if self.grading is not None and self.headline_grader not in POLICED:
            raise ValueError(f"grading = {self.grading!r} has no effect on grader = {self.headline_grader!r}; leave it out")
        self._check_model()
        return self

    @property
    def headline_grader(self) -> str | None:
        """`grader`, else the benchmark's; None: the headline is `accuracy`, as the reward grades."""
        return find_benchmark(self.benchmark).grader if self.grader is None and self.benchmark is not None else self.grader

    @property
    def headline_grading(self) -> GradingPolicy:
        """`grading`, else the benchmark's, else `lenient`."""
        if self.grading is not None or self.benchmark is None:
            return self.grading or DEFAULT_POLICY
        return find_benchmark(self.benchmark).grading

    @property
    def metric(self) -> str:
        """Name of the headline: `judge` where the reward has one, else the grader's, or `accuracy`."""
        return "judge" if self.reward.judge is not None else self.headline_grader or "accuracy"

    def _check_model(self) -> None:
        if self.engine.takes_text and self.model is not None:
            raise ValueError("model has no effect with engine.api = 'chat', where the server makes the tokens; leave it out")
        if self.engine.takes_text and self.agent.protocol.type != "tags":
            raise ValueError(
                f"agent.protocol.type = {self.agent.protocol.type!r} writes the model's own chat template, which with "
                f"engine.api = 'chat' is the server's; set it to 'tags', or give `model` and set engine.api = 'completions'"
            )
        if not self.engine.takes_text and self.model is None:
            raise ValueError("model is missing: name the policy's directory as model.path")
        if (
            self.model is not None
            and not self.engine.loads_model
            and (self.model.dtype != "float32" or self.model.device not in _UNSAID)
        ):
            raise ValueError(
                f"model.dtype and model.device have no effect with engine.type = {self.engine.type!r}; leave them out"
            )
        self._refuse_device(self.model)


class RolloutRun(PolicyRun):
    """Trees as in training, without training: `rollouts/` and `summary.json`."""

    model: ModelConfig
    """The policy."""
    trees_per_file: int = Field(default=64, ge=1)
    """Finished trees per file of `rollouts/`; a kill loses unwritten ones."""
    rollout: RolloutConfig = RolloutConfig()
    """How trees grow."""
    reward: RewardConfig | None = None
    """How trajectories are scored; None: not at all."""

    @model_validator(mode="after")
    def _check(self) -> "RolloutRun":
        require_sampled_tokens(self.engine, "arpo rollout")
        self._refuse_device(self.model)
        if self.rollout.deterministic:
            require_deterministic(self.engine, "rollout.deterministic")
        return self
