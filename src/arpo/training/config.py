"""Configuration of supervised and reinforcement training runs. Torch-free."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from arpo.batching.config import BatchingConfig
from arpo.conditions import only_with
from arpo.config import Config, with_long_forms
from arpo.distributed.config import DistributedConfig
from arpo.inference.config import EngineConfig, TransformersEngineConfig, require_deterministic, require_sampled_tokens
from arpo.models.config import TrainedModelConfig
from arpo.protocols.config import ProtocolConfig, TagProtocolConfig
from arpo.rewards.config import RewardConfig
from arpo.rollout.config import AgentConfig, RolloutConfig
from arpo.tools.config import ToolsConfig
from arpo.tracking.config import TrackingConfig
from arpo.training.algorithm_config import (
    AdvantageConfig,
    DynamicSamplingConfig,
    LossConfig,
    MismatchConfig,
    OutcomeAdvantageConfig,
    OverlongConfig,
    PpoClipLossConfig,
    TaskFilterConfig,
)
from arpo.training.inert_options import refuse_inert_options, require_moving_ratio
from arpo.training.presets import apply_preset


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
    """Course of the learning rate after the warm-up, down to `final_fraction` of the peak, reached after the last update or
    at `schedule_steps`."""
    final_fraction: Annotated[float, only_with(schedule=("linear", "cosine"))] = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end of the schedule, as a fraction of the peak."""
    schedule_steps: Annotated[int | None, only_with(schedule=("linear", "cosine"))] = Field(default=None, ge=1)
    """Step of the run at which the schedule ends, in SFT the update; the rate stays there. A run may only be made longer by
    `--resume` under a schedule whose end this key sets. None: the last step."""


class CheckpointConfig(Config):
    """Checkpoints for resumption."""

    every: int = Field(default=20, ge=1)
    """Steps between checkpoints; the last step always writes one."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints to keep, besides the best one."""


class ValidationConfig(Config):
    """Greedy answers to held-out tasks during training; the best result marks the best checkpoint."""

    short_for = "tasks"

    tasks: Path = Field(examples=["my_tasks.jsonl"])
    """Validation tasks, as `tasks`."""
    every: int = Field(default=10, ge=1)
    """Steps between validations; the last step always validates."""
    num_tasks: int = Field(default=200, ge=1)
    """First tasks of the file to ask."""
    tools: ToolsConfig | None = None
    """Tools of the validation; None means those of training."""


class SftValidationConfig(Config):
    """Loss on held-out conversations during supervised training; the lowest marks the best checkpoint."""

    fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the conversations of `data` to hold out, at least. All of one prompt stay on one side; the prompts are chosen by
    their hashes, so that every seed holds out the same. 0 needs `data`."""
    data: Path | None = None
    """Held-out conversations, as `data` of the run, in place of a fraction; those whose prompt is trained on are left out."""
    every: int = Field(default=50, ge=1)
    """Updates between validations; the last update always validates."""

    @model_validator(mode="after")
    def _check(self) -> "SftValidationConfig":
        if self.data is None and self.fraction == 0:
            raise ValueError(
                "nothing is held out; set validation.fraction, a share of `data` above 0, or the file validation.data"
            )
        if self.data is not None and self.fraction > 0:
            raise ValueError(
                f"fraction = {self.fraction:g} with data = '{self.data}': both say what is held out; leave one of them out"
            )
        return self


class RlRun(Config):
    """A reinforcement-learning run."""

    algorithm: str = "arpo"
    """Preset; keys of this configuration override it."""
    out: Path = Field(examples=["runs/mine"])
    """Run directory to write."""
    seed: int = 0
    """Names every random stream of the run."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice. Bit-identical runs need the same number."""
    model: TrainedModelConfig
    """The policy to start from."""
    tasks: Path = Field(examples=["my_tasks.jsonl"])
    """Training tasks: a file, a folder or a data set of the hub, see docs/data.md."""
    num_steps: int = Field(default=100, ge=1)
    """Steps; each samples `tasks_per_step` trees and updates the policy from them."""
    tasks_per_step: int = Field(default=8, ge=1)
    """Tasks per step; the incomplete last step of an epoch is skipped."""
    updates_per_step: int = Field(default=1, ge=1)
    """Optimizer updates per pass over a step's trees, which are split into as many mini-batches."""
    epochs_per_step: int = Field(default=1, ge=1)
    """Passes over a step's trees."""
    batching: BatchingConfig = BatchingConfig()
    """Tokens of one forward and backward pass; does not change a gradient."""
    agent: AgentConfig = Field(examples=[{"tools": {"python": {}}}])
    """Protocol, tools and limits."""
    engine: EngineConfig = TransformersEngineConfig()
    """What samples completions."""
    rollout: RolloutConfig = RolloutConfig()
    """How trees grow."""
    reward: RewardConfig = RewardConfig()
    """How trajectories are scored."""
    overlong: OverlongConfig = OverlongConfig()
    """Penalty of trajectories near their token limit."""
    dynamic_sampling: DynamicSamplingConfig = DynamicSamplingConfig()
    """Whether groups without signal are replaced."""
    task_filter: TaskFilterConfig = TaskFilterConfig()
    """Whether tasks that are always or never solved are filtered."""
    advantage: AdvantageConfig = OutcomeAdvantageConfig()
    """How rewards become advantages."""
    loss: LossConfig = PpoClipLossConfig()
    """What is minimised."""
    mismatch: MismatchConfig = MismatchConfig()
    """Correction for an engine that differs from the trainer."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Updates of the weights."""
    validation: ValidationConfig | None = None
    """Validation during training; None: none, and the last checkpoint counts as the best."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Resumption."""
    rollouts_every: int = Field(default=1, ge=0)
    """Steps between saved rollout files; 0 saves none."""
    tracking: TrackingConfig = TrackingConfig()
    """Destinations of metrics besides metrics.jsonl."""
    distributed: DistributedConfig = DistributedConfig()
    """Several processes, started by torchrun."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: object) -> object:
        if not isinstance(data, dict) or not isinstance(data.get("algorithm", ""), str):
            return data
        return {"mismatch": {}} | apply_preset(with_long_forms(cls, cast(dict[str, Any], data)))

    @field_validator("loss", mode="before")
    @classmethod
    def _resolve_kl_level(cls, given: object, info: ValidationInfo) -> object:
        advantage = info.data.get("advantage")
        if not isinstance(given, dict) or advantage is None:
            return given
        loss = cast(dict[str, Any], given)
        kl = loss.get("kl")
        if not isinstance(kl, dict) or cast(dict[str, Any], kl).get("estimator") != "k1":
            return loss
        compares_trajectories = advantage.baseline != "none" and advantage.scale != "batch_std"
        level = "sequence" if compares_trajectories or loss.get("type") == "gspo" else "token"
        return loss | {"kl": {"level": level} | cast(dict[str, Any], kl)}

    @field_validator("mismatch", mode="before")
    @classmethod
    def _resolve_level(cls, given: object, info: ValidationInfo) -> object:
        engine, loss = info.data.get("engine"), info.data.get("loss")
        if not isinstance(given, dict) or engine is None or loss is None:
            return given
        level = "none" if engine.shares_model else "sequence" if loss.type == "gspo" else "token"
        return {"level": level} | cast(dict[str, Any], given)

    @model_validator(mode="after")
    def _check(self) -> "RlRun":
        if self.rollout.temperature == 0:
            raise ValueError("rollout.temperature = 0: greedy trajectories of a group are all equal; use a temperature above 0")
        require_sampled_tokens(self.engine, "training")
        if self.rollout.deterministic:
            require_deterministic(self.engine, "rollout.deterministic")
        longest = self.agent.limits.max_trajectory_tokens
        if self.batching.max_tokens < longest:
            raise ValueError(
                f"batching.max_tokens = {self.batching.max_tokens} is below agent.limits.max_trajectory_tokens = {longest}: a "
                f"trajectory of that length fits no pass and cannot be cut; set batching.max_tokens to {longest} or more, "
                f"or agent.limits.max_trajectory_tokens to {self.batching.max_tokens} or less"
            )
        end = self.optimizer.schedule_steps
        if end is not None and end < self.num_steps and self.optimizer.final_fraction == 0:
            raise ValueError(
                f"num_steps = {self.num_steps} with optimizer.schedule_steps = {end} and optimizer.final_fraction = 0: the "
                f"learning rate is 0 after step {end}, and nothing is learned; raise one of the latter, or lower num_steps"
            )
        if self.updates_per_step > self.tasks_per_step:
            raise ValueError(
                f"updates_per_step = {self.updates_per_step} exceeds tasks_per_step = {self.tasks_per_step}: "
                f"a mini-batch holds at least one tree"
            )
        refuse_inert_options(self)
        if not self.has_moving_ratio:
            require_moving_ratio(self, self.algorithm, self.loss)
        self._check_overlong()
        return self

    def _check_overlong(self) -> None:
        limit, overlong = self.agent.limits.max_trajectory_tokens, self.overlong
        if overlong.max_tokens is not None and overlong.max_tokens * (1 - overlong.buffer) >= limit:
            raise ValueError(
                f"overlong.max_tokens = {overlong.max_tokens} has no effect: its penalty begins at "
                f"{overlong.max_tokens * (1 - overlong.buffer):g} tokens, and trajectories end at "
                f"agent.limits.max_trajectory_tokens = {limit}; lower it, or leave it out for that limit"
            )

    @property
    def has_moving_ratio(self) -> bool:
        """Whether a step has several updates, so that ratios differ from 1."""
        return self.updates_per_step * self.epochs_per_step > 1


class SftRun(Config):
    """A supervised run on conversations; tool results are never trained."""

    out: Path = Field(examples=["runs/mine"])
    """Run directory to write; `final` in it is the trained model."""
    seed: int = 0
    """Seed of the order of the conversations."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None leaves its choice."""
    model: TrainedModelConfig
    """The model to start from."""
    data: Path = Field(examples=["my_conversations.jsonl"])
    """Conversations, OpenAI messages or ShareGPT: a file, a folder or a data set of the hub, see docs/data.md."""
    protocol: ProtocolConfig = TagProtocolConfig()
    """Protocol that encodes conversations: that of the later rollouts."""
    tools: ToolsConfig = ToolsConfig()
    """Tools of the later rollouts, whose schemas a prompt may show; only the tag protocol with `search` and `python` alone
    needs none."""
    num_epochs: int = Field(default=3, ge=1)
    """Passes over the conversations."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Seconds of updates and validations after which the run stops, even before the last epoch; the schedule follows the time.
    A resumed run counts those before, too. None: no limit."""
    batch_tokens: int = Field(default=4096, ge=64)
    """Most tokens of one optimizer update, untrained ones included; at least the longest conversation."""
    max_tokens: int = Field(default=4096, ge=8)
    """Longest conversation; longer ones are filtered and counted."""
    batching: BatchingConfig = BatchingConfig()
    """Tokens of one forward and backward pass; an update of more tokens has several. Does not change a gradient."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=7e-6, schedule="cosine")
    """Updates of the weights."""
    validation: SftValidationConfig | None = None
    """Validation during training; None: none, and the last checkpoint counts as the best."""
    checkpoint: CheckpointConfig = CheckpointConfig(every=50, keep=1)
    """Resumption; a step is an update."""
    tracking: TrackingConfig = TrackingConfig()
    """Destinations of metrics besides metrics.jsonl."""
    distributed: DistributedConfig = DistributedConfig()
    """Several processes, started by torchrun."""

    @model_validator(mode="after")
    def _check(self) -> "SftRun":
        if self.max_seconds is not None and self.optimizer.schedule_steps is not None:
            raise ValueError(
                f"optimizer.schedule_steps = {self.optimizer.schedule_steps} with max_seconds = {self.max_seconds:g}: both say "
                f"when the schedule ends; leave one of them out"
            )
        return self
