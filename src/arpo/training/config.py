"""Configuration of supervised and reinforcement training runs. Torch-free."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, model_validator

from arpo.config import Config
from arpo.inference.config import EngineConfig, TransformersEngineConfig, require_engine_can
from arpo.models.config import ModelConfig
from arpo.protocols.config import TagProtocolConfig
from arpo.rewards.config import RewardConfig
from arpo.rollout.config import AgentConfig, RolloutConfig
from arpo.tools.config import ToolsConfig
from arpo.tracking.config import TrackingConfig


class AdvantageConfig(Config):
    """Advantages of the trajectories of a group."""

    type: Literal["group_normalized"] = "group_normalized"
    """`group_normalized`: reward minus the group's mean (GRPO); on shared tokens every sharer contributes (ARPO's soft
    attribution)."""
    normalize_std: bool = True
    """Divide by the group's standard deviation (n - 1)."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the standard deviation."""


class LossConfig(Config):
    """The policy loss."""

    type: Literal["ppo_clip"] = "ppo_clip"
    """`ppo_clip`: PPO's clipped surrogate."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Distance below 1 at which the ratio is clipped where the advantage is negative."""
    clip_high: float = Field(default=0.2, gt=0)
    """Distance above 1 at which the ratio is clipped where the advantage is positive."""
    aggregation: Literal["token_mean", "sequence_mean"] = "token_mean"
    """`token_mean`: tokens count alike over the whole batch; `sequence_mean`: trajectories count alike."""


class OptimizerConfig(Config):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean and of the running square."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases) are not decayed."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Global gradient norm above which gradients are scaled down."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer updates over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after the warm-up, down to `final_fraction` of the peak, reached behind the last update."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Where `linear` and `cosine` end, as a fraction of the peak."""


class CheckpointConfig(Config):
    """What is kept for resumption."""

    every: int = Field(default=20, ge=1)
    """Steps between checkpoints; the last step always writes one."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints kept; the best one is kept besides."""


class ValidationConfig(Config):
    """Greedy answers to held-out tasks during training; the best result marks the best checkpoint."""

    tasks: Path
    """File of validation tasks."""
    every: int = Field(default=10, ge=1)
    """Steps between validations; the last step always validates."""
    num_tasks: int = Field(default=200, ge=1)
    """Tasks asked, from the first on."""
    tools: ToolsConfig | None = None
    """Tools of the validation; None means those of training."""


class RlRun(Config):
    """A reinforcement-learning run."""

    algorithm: str = "arpo"
    """Preset under the keys of this configuration; whatever is set here overrides it."""
    out: Path
    """Run directory to write."""
    seed: int = 0
    """Names every random stream of the run."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice. Part of the arithmetic: bit-identical runs need the same number."""
    model: ModelConfig
    """The policy to start from."""
    tasks: Path
    """File of training tasks: parquet in the public RL schema, or JSONL."""
    num_steps: int = Field(default=100, ge=1)
    """Steps; each grows `tasks_per_step` trees and updates the policy from them."""
    tasks_per_step: int = Field(default=8, ge=1)
    """Tasks per step; an epoch's incomplete last step is left out."""
    updates_per_step: int = Field(default=1, ge=1)
    """Optimizer updates per step: the step's trees are split into as many mini-batches."""
    max_batch_tokens: int = Field(default=8192, ge=64)
    """Unique tokens of one forward and backward pass; does not change a gradient, only memory."""
    agent: AgentConfig
    """Protocol, tools and limits."""
    engine: EngineConfig = TransformersEngineConfig()
    """What samples completions."""
    rollout: RolloutConfig = RolloutConfig()
    """How trees grow."""
    reward: RewardConfig = RewardConfig()
    """How trajectories are scored."""
    advantage: AdvantageConfig = AdvantageConfig()
    """How rewards become advantages."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights move."""
    validation: ValidationConfig | None = None
    """Validation during training; None: none, and the last checkpoint counts as the best."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Resumption."""
    rollouts_every: int = Field(default=1, ge=0)
    """Steps between saved rollout files; 0 saves none."""
    tracking: TrackingConfig = TrackingConfig()
    """Where metrics go besides metrics.jsonl."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        given = cast(dict[str, Any], data)
        return _merge(read_preset(given.get("algorithm", "arpo")), given)

    @model_validator(mode="after")
    def _check(self) -> "RlRun":
        if self.rollout.group_size == 1:
            raise ValueError(
                "rollout.group_size = 1: group-normalised advantages of a group of one are always 0, so nothing would be "
                "learned; set it to 2 or more"
            )
        if self.rollout.temperature == 0:
            raise ValueError("rollout.temperature = 0: greedy trajectories of a group are all equal; use a temperature above 0")
        require_engine_can(self.engine, deterministic=self.rollout.deterministic, key="rollout.deterministic")
        if self.updates_per_step > self.tasks_per_step:
            raise ValueError(
                f"updates_per_step = {self.updates_per_step} exceeds tasks_per_step = {self.tasks_per_step}: "
                f"a mini-batch holds at least one tree"
            )
        return self


class SftRun(Config):
    """A supervised run on conversations; tool results are never trained."""

    out: Path
    """Run directory to write; `final` in it is the trained model."""
    seed: int = 0
    """Decides the order of the conversations."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice."""
    model: ModelConfig
    """The model to start from."""
    data: Path
    """Conversations, JSONL or parquet, OpenAI messages or ShareGPT."""
    protocol: TagProtocolConfig = TagProtocolConfig()
    """How conversations become tokens: that of the rollouts to come."""
    num_epochs: int = Field(default=3, ge=1)
    """Passes over the conversations."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Stop after this much training time even if epochs are left; the schedule is stretched over the time. None: no limit."""
    batch_tokens: int = Field(default=4096, ge=64)
    """Tokens per optimizer update, untrained ones included."""
    max_tokens: int = Field(default=4096, ge=8)
    """Longest conversation; longer ones are dropped and counted."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=7e-6, schedule="cosine")
    """How weights move."""
    tracking: TrackingConfig = TrackingConfig()
    """Where metrics go besides metrics.jsonl."""


def read_preset(name: object) -> dict[str, Any]:
    """The keys an algorithm's preset sets.

    Raises:
        ValueError: there is no preset of that name; the names are listed.
    """
    folder = resources.files("arpo") / "presets"
    names = sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    if name not in names:
        raise ValueError(f"algorithm = {name!r}: there is no such preset; choose one of {', '.join(names)}")
    return tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` over `base`, section by section; a section that names another `type` replaces the base's whole."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            section, under = cast(dict[str, Any], value), cast(dict[str, Any], below)
            replaces = "type" in section and section["type"] != under.get("type")
            merged[key] = section if replaces else _merge(under, section)
        else:
            merged[key] = value
    return merged
