"""Configuration of evaluations and of rollouts without training. Torch-free."""

from pathlib import Path

from pydantic import Field, model_validator

from arpo.config import Config
from arpo.inference.config import EngineConfig, TransformersEngineConfig, require_engine_can
from arpo.models.config import ModelConfig
from arpo.rewards.config import RewardConfig
from arpo.rollout.config import AgentConfig, RolloutConfig


class EvalRun(Config):
    """A policy on a file of tasks, in the agent loop of training."""

    out: Path
    """Folder to write: `records.jsonl`, one line per answer, and `summary.json`."""
    seed: int = 0
    """Names the random streams of sampled answers."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice."""
    model: ModelConfig
    """The policy."""
    tasks: Path
    """File of tasks: parquet in the public RL schema, or JSONL."""
    num_tasks: int | None = Field(default=None, ge=1)
    """Tasks asked, from the first on; None asks all."""
    num_samples: int = Field(default=4, ge=0)
    """Sampled answers per task besides the greedy one, k of pass@k; 0 leaves sampling out."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the sampled answers."""
    max_live_trajectories: int = Field(default=128, ge=1)
    """Trajectories grown at the same time, in whole tasks."""
    agent: AgentConfig
    """Protocol, tools and limits: those of training."""
    engine: EngineConfig = TransformersEngineConfig()
    """What samples the answers."""
    reward: RewardConfig = RewardConfig()
    """The grader."""
    deterministic: bool = True
    """Fix the composition of the engine's batches, so that two evaluations give identical answers."""

    @model_validator(mode="after")
    def _check(self) -> "EvalRun":
        require_engine_can(self.engine, deterministic=self.deterministic, key="deterministic")
        return self


class RolloutRun(Config):
    """Grows the trees of a file of tasks as training would, without training."""

    out: Path
    """Run directory to write: `rollouts/`, `summary.json`."""
    seed: int = 0
    """Names the random streams."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice."""
    model: ModelConfig
    """The policy."""
    tasks: Path
    """File of tasks: parquet in the public RL schema, or JSONL."""
    num_tasks: int | None = Field(default=None, ge=1)
    """Tasks taken, from the first on; None takes all."""
    trees_per_file: int = Field(default=64, ge=1)
    """Finished trees per file of `rollouts/`; a run that is killed loses those not yet written."""
    max_live_trajectories: int = Field(default=128, ge=1)
    """Trajectories grown at the same time, in whole tasks."""
    agent: AgentConfig
    """Protocol, tools and limits."""
    engine: EngineConfig = TransformersEngineConfig()
    """What samples the trajectories."""
    rollout: RolloutConfig = RolloutConfig()
    """How trees grow."""
    reward: RewardConfig | None = None
    """How trajectories are scored; None leaves them without a score."""

    @model_validator(mode="after")
    def _check(self) -> "RolloutRun":
        require_engine_can(self.engine, deterministic=self.rollout.deterministic, key="rollout.deterministic")
        return self
