"""Configuration of an evaluation. Torch-free."""

from pathlib import Path

from pydantic import Field

from arpo.config import Config
from arpo.models.config import ModelConfig
from arpo.rewards.config import RewardConfig
from arpo.rollout.config import AgentConfig


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
    reward: RewardConfig = RewardConfig()
    """The grader."""
    deterministic: bool = True
    """Fix the composition of the engine's batches, so that two evaluations give identical answers."""
