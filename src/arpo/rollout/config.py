"""Configuration of the agent loop and of branching."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from arpo.conditions import only_with
from arpo.config import Config
from arpo.protocols.config import ProtocolConfig, TagProtocolConfig
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


class ReleasedRuleConfig(Config):
    """Options shared by the rules of the two public code bases; the defaults are theirs."""

    branch_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of a branch where entropy did not change."""
    entropy_weight: float = 0.2
    """Weight of the entropy change."""
    branch_factor: int = Field(default=1, ge=1)
    """Tries per opportunity, each for one new path (the public code's `beam_size` - 1)."""
    lag: bool = True
    """True: look at the completion that made the call, as the public code does; False: at the tokens after the result."""
    sum_over_window: bool = True
    """True: sum the entropies of the window; False: average them."""


class ArpoReleasedRuleConfig(ReleasedRuleConfig):
    """The rule of the public ARPO code: branch with probability branch_probability + entropy_weight * change."""

    type: Literal["arpo_released"] = "arpo_released"
    """`arpo_released`: a coin biased by entropy."""


class AepoRuleConfig(Config):
    """AEPO's rule: a probe balances the budget, consecutive branches are penalised (arXiv:2510.14545)."""

    type: Literal["aepo"] = "aepo"
    """`aepo`: as `arpo`, less likely after consecutive branches."""
    alpha: float = 0.5
    """Base sampling probability."""
    gamma: float = 0.2
    """Weight of the entropy change."""
    tau: float = 0.5
    """Threshold of the penalised probability."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per branch, the original excluded (Z)."""
    penalty_slope: float = Field(default=0.05, ge=0)
    """Share of the probability removed per consecutive branch on the path, at most 1."""
    probe_slope: float = 0.5
    """Slope, per nat, of the sigmoid that maps the probe's entropies to the number of initial trajectories; used when
    num_initial_trajectories is left out."""


class AepoReleasedRuleConfig(ReleasedRuleConfig):
    """The rule of the public AEPO code: the coin of `arpo_released`, penalised per task."""

    type: Literal["aepo_released"] = "aepo_released"
    """`aepo_released`: a coin biased by entropy and by the group's consecutive branches."""
    penalty_slope: float = Field(default=0.05, ge=0)
    """Penalty per consecutive turn in which the group branched."""
    probe_slope: float = 0.5
    """Slope of the sigmoid that maps the probe's entropies to the number of initial trajectories; used when
    num_initial_trajectories is left out."""


Rate = Annotated[float, Field(ge=0, le=1)]


class RandomRuleConfig(Config):
    """The control: branch at a fixed rate, whatever the entropy."""

    type: Literal["random"] = "random"
    """`random`: branch at random."""
    rate: Rate | Annotated[tuple[Rate, ...], Field(min_length=1)] = 0.5
    """Probability of a branch after a tool result: one number, or one per turn; the last holds for later turns. The measured
    rates of another rule make a control that differs only in *where* it branches."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per branch, the original excluded."""


class ThresholdRuleConfig(Config):
    """Branch where the entropy after a tool result exceeds a bound, in nats."""

    type: Literal["threshold"] = "threshold"
    """`threshold`: branch where entropy is high."""
    threshold: Annotated[float, Field(gt=0)] | Literal["adaptive"] = "adaptive"
    """Bound, nats; `adaptive`: mean + num_std * std over the last num_recent tool results of the tree."""
    num_std: Annotated[float, only_with(threshold="adaptive")] = Field(default=1.0, ge=0)
    """Standard deviations above the mean."""
    num_recent: Annotated[int, only_with(threshold="adaptive")] = Field(default=20, ge=2)
    """Tool results in the sliding window."""
    max_branches: int = Field(default=4, ge=1)
    """Most new paths per branch, the original excluded."""


class TokenEntropyRuleConfig(Config):
    """Fork inside completions, before the most uncertain tokens of the whole group; a rule of our own."""

    type: Literal["token_entropy"] = "token_entropy"
    """`token_entropy`: branch at tokens, not at tool results."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per token, the original excluded."""


class RandomTokenRuleConfig(Config):
    """The control of `token_entropy`: fork inside completions, before tokens drawn at random."""

    type: Literal["random_token"] = "random_token"
    """`random_token`: branch at random tokens, not at tool results."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per token, the original excluded."""


class MixedOutcomesRuleConfig(Config):
    """A task gets the more branches, the more often its groups had right and wrong answers; they fork where entropy rose.

    A rule of our own. The budget of branches is group_size times max_branch_share times the expected share of mixed groups:
    (mixed + prior_groups * prior) / (groups + prior_groups), over the task's groups in earlier steps.
    """

    type: Literal["mixed_outcomes"] = "mixed_outcomes"
    """`mixed_outcomes`: more branches for tasks that are sometimes solved."""
    prior: float = Field(default=0.5, ge=0, le=1)
    """Expected share of mixed groups of a task without earlier groups."""
    prior_groups: float = Field(default=2.0, gt=0)
    """Weight of the prior: that many earlier groups count as much."""
    max_branch_share: float = Field(default=0.75, gt=0, le=1)
    """Share of the group that branches fill where every earlier group was mixed; one trajectory always starts at the prompt."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per branch, the original excluded."""


BranchRuleConfig = Annotated[
    NoBranchingConfig
    | ArpoRuleConfig
    | ArpoReleasedRuleConfig
    | AepoRuleConfig
    | AepoReleasedRuleConfig
    | RandomRuleConfig
    | ThresholdRuleConfig
    | TokenEntropyRuleConfig
    | RandomTokenRuleConfig
    | MixedOutcomesRuleConfig,
    Field(discriminator="type"),
]

EntropyEstimator = Literal["exact", "top_k", "surprisal"]


class LimitsConfig(Config):
    """Token limits of one trajectory; the tool executor limits the calls."""

    max_turn_tokens: int = Field(default=1024, ge=1)
    """Most tokens of one completion."""
    max_trajectory_tokens: int = Field(default=8192, ge=8)
    """Most tokens of a trajectory, prompt and observations included."""


class AgentConfig(Config):
    """The agent's environment, the same in training, evaluation and demonstrations."""

    protocol: ProtocolConfig = TagProtocolConfig()
    """How the model writes tool calls and reads results."""
    tools: ToolsConfig = ToolsConfig()
    """The tools and their limits."""
    limits: LimitsConfig = LimitsConfig()
    """Token limits."""


class RolloutConfig(Config):
    """How the trees of one step are sampled."""

    group_size: int = Field(default=16, ge=1)
    """Trajectories per task (M in the ARPO paper)."""
    rule: BranchRuleConfig = ArpoRuleConfig()
    """When to branch."""
    num_initial_trajectories: int | None = Field(default=None, ge=1)
    """Trajectories started from the prompt before any branch (N). Left out: a probe determines it (aepo, aepo_released), or the
    task's earlier groups do (mixed_outcomes); else group_size // 2 with a branching rule, group_size without one."""
    entropy_window: int = Field(default=20, ge=1)
    """Tokens after a tool result whose entropies are averaged (k); the window ends with the turn."""
    entropy_normalizer: Literal["log_vocab", "none", "paper"] = "log_vocab"
    """Divisor of entropy_delta. `log_vocab`: ln(vocabulary size); `none`: 1, so nats; `paper`: the vocabulary size, under the
    sum of the k differences."""
    entropy_estimator: EntropyEstimator | None = None
    """`exact`: over the full vocabulary; `top_k`: over the most likely tokens only, as the public code; `surprisal`: -log-prob
    of the token drawn. Left out: top_k for the released rules, else exact. An engine without it refuses."""
    entropy_top_k: Annotated[int, only_with(entropy_estimator="top_k")] = Field(default=10, ge=1)
    """Tokens the estimator `top_k` sums over; 10 in the public code."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    deterministic: bool = True
    """Fix the composition of the engine's batches, so that two runs sample identical trees whatever the tools' latency."""

    @field_validator("num_initial_trajectories")
    @classmethod
    def _resolve_initial(cls, given: int | None, info: ValidationInfo) -> int | None:
        group_size, rule = info.data.get("group_size"), info.data.get("rule")
        if given is not None or group_size is None or rule is None or rule.type in ("aepo", "aepo_released", "mixed_outcomes"):
            return given
        return group_size if rule.type == "none" else max(1, group_size // 2)

    @field_validator("entropy_estimator")
    @classmethod
    def _resolve_estimator(cls, given: EntropyEstimator | None, info: ValidationInfo) -> EntropyEstimator:
        return given or ("top_k" if isinstance(info.data.get("rule"), ReleasedRuleConfig) else "exact")

    @model_validator(mode="after")
    def _check(self) -> "RolloutConfig":
        initial = self.num_initial_trajectories
        if self.group_size == 1 and self.rule.type != "none":
            raise ValueError(
                f"rollout.group_size = 1 with rule.type = {self.rule.type!r}: the one trajectory starts at the prompt, so "
                f"nothing could branch; set it to 2 or more, or choose rule.type = 'none'"
            )
        if initial is not None and initial > self.group_size:
            raise ValueError(f"num_initial_trajectories = {initial} exceeds group_size = {self.group_size}; lower it")
        if self.rule.type == "none" and initial not in (None, self.group_size):
            raise ValueError(
                f"num_initial_trajectories = {initial} has no effect with rule.type = 'none'; "
                f"leave it out or choose a branching rule"
            )
        if self.rule.type != "none" and initial == self.group_size:
            raise ValueError(
                f"num_initial_trajectories = {initial} fills the group of group_size = {initial}, so rule.type = "
                f"{self.rule.type!r} could not branch; lower it, or choose rule.type = 'none'"
            )
        if isinstance(self.rule, ReleasedRuleConfig) and self.entropy_normalizer == "paper":
            raise ValueError(
                f"entropy_normalizer = 'paper' has no meaning with rule.type = {self.rule.type!r}, whose option "
                f"sum_over_window decides instead; use 'log_vocab', as the public code does, or 'none'"
            )
        return self

    @model_validator(mode="after")
    def _check_rule(self) -> "RolloutConfig":
        rule = self.rule
        if isinstance(rule, AepoRuleConfig | AepoReleasedRuleConfig) and self.num_initial_trajectories is not None:
            default = type(rule).model_fields["probe_slope"].default
            if rule.probe_slope != default:
                raise ValueError(
                    f"rule.probe_slope = {rule.probe_slope} has no effect with num_initial_trajectories = "
                    f"{self.num_initial_trajectories}, so no probe runs; leave one of them out"
                )
        if isinstance(rule, MixedOutcomesRuleConfig):
            self._check_mixed_outcomes(rule)
        if isinstance(rule, ArpoRuleConfig):
            self._check_arpo(rule)
        return self

    def _check_mixed_outcomes(self, rule: MixedOutcomesRuleConfig) -> None:
        """The rule plans N itself, and only sign and order of the entropy's changes count."""
        if self.num_initial_trajectories is not None:
            raise ValueError(
                f"num_initial_trajectories = {self.num_initial_trajectories} with rule.type = 'mixed_outcomes', which takes "
                f"the number from the task's earlier groups; leave it out, or choose rule.type = 'arpo'"
            )
        if self.entropy_normalizer == "none":
            raise ValueError(
                "entropy_normalizer = 'none' has no effect with rule.type = 'mixed_outcomes', where only the sign and the "
                "order of the entropy's changes count; leave it at 'log_vocab'"
            )
        if rule.max_branch_share * self.group_size < 0.5:
            raise ValueError(
                f"rule.max_branch_share = {rule.max_branch_share} of group_size = {self.group_size} is less than half a "
                f"trajectory, so nothing could branch; raise one of them"
            )

    def _check_arpo(self, rule: ArpoRuleConfig) -> None:
        """With alpha = tau, as published, a branch depends on the sign of beta * entropy_delta alone."""
        if rule.beta == 0 and rule.alpha <= rule.tau:
            raise ValueError(
                f"rule.beta = 0 with rule.alpha = {rule.alpha} and rule.tau = {rule.tau}: the probability never exceeds tau, "
                f"so nothing could branch; set beta above 0, or choose rule.type = 'random' or 'none'"
            )
        if rule.alpha != rule.tau:
            return
        why = f"has no effect with rule.alpha = rule.tau = {rule.tau}, where only the sign of the entropy's change counts"
        if rule.beta > 0 and rule.beta != ArpoRuleConfig.model_fields["beta"].default:
            raise ValueError(f"rule.beta = {rule.beta} {why}; leave it out or set alpha and tau apart")
        if self.entropy_normalizer == "none":
            raise ValueError(f"entropy_normalizer = 'none' {why}; leave it at 'log_vocab' or set alpha and tau apart")

    @property
    def top_k(self) -> int | None:
        """Number of most likely tokens in an entropy; None: the full vocabulary."""
        return self.entropy_top_k if self.entropy_estimator == "top_k" else None
