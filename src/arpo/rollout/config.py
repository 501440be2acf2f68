"""Configuration of the agent loop and of branching."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from arpo.config import Config
from arpo.protocols.config import TagProtocolConfig
from arpo.tools.config import ToolsConfig


class NoBranchingConfig(Config):
    """Independent trajectories: every leaf starts at the prompt (GRPO and its kin)."""

    type: Literal["none"] = "none"
    """`none`: never branch."""


class ArpoRuleConfig(Config):
    """The paper's rule: branch after a tool result iff alpha + beta * entropy_delta > tau (arXiv:2507.19849, section 3)."""

    type: Literal["arpo"] = "arpo"
    """`arpo`: branch where entropy rose after the tool result."""
    alpha: float = 0.5
    """Base sampling probability."""
    beta: float = 0.2
    """Weight of the entropy change."""
    tau: float = 0.5
    """Threshold; with alpha = tau the rule says: branch iff entropy rose."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per branch, the original excluded (Z in the paper)."""


BranchRuleConfig = Annotated[NoBranchingConfig | ArpoRuleConfig, Field(discriminator="type")]


class LimitsConfig(Config):
    """Token limits of one trajectory; the limit on tool calls is the executor's."""

    max_turn_tokens: int = Field(default=1024, ge=1)
    """Most tokens of one completion."""
    max_trajectory_tokens: int = Field(default=8192, ge=8)
    """Most tokens of a trajectory, prompt and observations included."""


class AgentConfig(Config):
    """The agent's environment, the same in training, evaluation and demonstrations."""

    protocol: TagProtocolConfig = TagProtocolConfig()
    """How the model writes tool calls and reads results."""
    tools: ToolsConfig = ToolsConfig()
    """The tools and their limits."""
    limits: LimitsConfig = LimitsConfig()
    """Token limits."""


class RolloutConfig(Config):
    """How the trees of one step grow."""

    group_size: int = Field(default=16, ge=1)
    """Trajectories per task (M in the ARPO paper)."""
    num_initial_trajectories: int | None = Field(default=None, ge=1)
    """Trajectories started from the prompt before any branch (N); None means group_size // 2 for a branching rule, else all."""
    rule: BranchRuleConfig = ArpoRuleConfig()
    """When to branch."""
    entropy_window: int = Field(default=20, ge=1)
    """Tokens after a tool result whose entropies are averaged (k); a shorter turn ends the window."""
    entropy_normalizer: Literal["log_vocab", "none", "paper"] = "log_vocab"
    """What entropy_delta is divided by: ln(vocabulary); nothing (nats); `paper`: the k differences summed, over the vocabulary
    size."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    deterministic: bool = True
    """Fix the composition of the engine's batches, so that two runs grow identical trees whatever the tools' latency."""

    @model_validator(mode="after")
    def _check(self) -> "RolloutConfig":
        initial = self.num_initial_trajectories
        if initial is not None and initial > self.group_size:
            raise ValueError(f"num_initial_trajectories = {initial} exceeds group_size = {self.group_size}; lower it")
        if self.rule.type == "none" and initial not in (None, self.group_size):
            raise ValueError(
                f"num_initial_trajectories = {initial} has no effect with rule.type = 'none'; "
                f"leave it out or choose a branching rule"
            )
        if self.rule.type != "none" and initial == self.group_size:
            raise ValueError(
                f"num_initial_trajectories = {initial} fills the group of group_size = {initial}, so that rule.type = "
                f"{self.rule.type!r} could never branch; lower it, or choose rule.type = 'none'"
            )
        return self

    @property
    def num_initial(self) -> int:
        """N resolved: what `num_initial_trajectories` means for this rule."""
        default = self.group_size if self.rule.type == "none" else max(1, self.group_size // 2)
        return self.num_initial_trajectories or default
