"""Configuration of the agent loop and of branching."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from arpo.conditions import only_with
from arpo.config import Config, value_at
from arpo.protocols.config import ProtocolConfig, TagProtocolConfig
from arpo.rollout.inert_keys import InertKey, Use, only_the_sign_counts
from arpo.tools.config import ToolsConfig


class _RuleConfig(Config):
    """A rule, and which keys change none of its decisions."""

    count_keys: ClassVar[tuple[str, ...]] = ("branch_factor",)
    """Keys that only say how many leaves a decision asks for: without effect where branches can fill one leaf."""
    reads_change: ClassVar[bool] = False
    """Whether decisions depend on the normalised change of entropy."""

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """Keys of the rule, and `entropy_normalizer`, none of whose values changes a decision."""
        if use.num_places == 1:
            why = "where branches fill one leaf of the group"
            instead = "raise group_size or lower num_initial_trajectories"
            for key in self.count_keys:
                yield InertKey(f"rule.{key}", why, instead, type(self).model_fields[key].default)
        if not self.reads_change:
            yield _unread_normalizer(f"with rule.type = {getattr(self, 'type', None)!r}, which reads no change of entropy")

    def never_branches(self) -> str | None:
        """Why no values of a tree lead to a branch, and what to set instead; None where some do."""
        return None


def _unread_normalizer(why: str) -> InertKey:
    return InertKey("entropy_normalizer", why, "choose a rule that reads it, such as rule.type = 'arpo'", "log_vocab")


class NoBranchingConfig(_RuleConfig):
    """Independent trajectories: every leaf starts at the prompt (GRPO and its kin)."""

    type: Literal["none"] = "none"
    """`none`: never branch."""

    count_keys = ()


class ArpoRuleConfig(_RuleConfig):
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

    reads_change = True

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """With alpha = tau, as published, only the sign of beta * entropy_delta counts; with beta = 0 no entropy does."""
        yield from super().inert_keys(use)
        if self.beta == 0:
            yield _unread_normalizer("with rule.beta = 0")
        elif self.alpha == self.tau:
            yield from only_the_sign_counts("beta", self.beta, 0.2, f"rule.alpha = rule.tau = {self.tau}", use)

    def never_branches(self) -> str | None:
        """P = alpha for every change of entropy."""
        return _constant("beta", self.alpha, self.tau) if self.beta == 0 and self.alpha <= self.tau else None


def _constant(weight: str, alpha: float, tau: float) -> str:
    return (
        f"rule.{weight} = 0 with rule.alpha = {alpha} and rule.tau = {tau}: the probability never exceeds tau, so nothing "
        f"could branch; set {weight} above 0, or choose rule.type = 'random' or 'none'"
    )


def _refuse_zero(slope: float) -> float:
    if slope == 0:
        raise ValueError("the probe would decide nothing; set it other than 0, or set num_initial_trajectories")
    return slope


_ProbeSlope = Annotated[float, AfterValidator(_refuse_zero)]


class ReleasedRuleConfig(_RuleConfig):
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

    count_keys = ()  # tries change how likely a branch is
    reads_change = True

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """Without a weight no entropy counts, but in a probe; one entropy is its own sum and mean."""
        yield from super().inert_keys(use)
        instead = "set rule.entropy_weight other than 0"
        if self.entropy_weight == 0:
            yield InertKey("rule.lag", "with rule.entropy_weight = 0", instead, True)
        if self.entropy_weight == 0 and not self.reads_probe(use):
            yield InertKey("rule.sum_over_window", "with rule.entropy_weight = 0", instead, True)
            yield InertKey("entropy_normalizer", "with rule.entropy_weight = 0", instead, "log_vocab")
        elif use.window == 1:
            yield InertKey("rule.sum_over_window", "with entropy_window = 1", "set entropy_window to 2 or more", True)

    def reads_probe(self, use: Use) -> bool:
        """Whether the entropies of a probe determine the number of initial trajectories."""
        return False


class ArpoReleasedRuleConfig(ReleasedRuleConfig):
    """The rule of the public ARPO code: branch with probability branch_probability + entropy_weight * change."""

    type: Literal["arpo_released"] = "arpo_released"
    """`arpo_released`: a coin biased by entropy."""

    def never_branches(self) -> str | None:
        """The probability is 0 for every change of entropy."""
        if self.branch_probability > 0 or self.entropy_weight != 0:
            return None
        return (
            "rule.branch_probability = 0 with rule.entropy_weight = 0: nothing could branch; set either above 0, or choose "
            "rule.type = 'none'"
        )


class AepoRuleConfig(_RuleConfig):
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
    probe_slope: _ProbeSlope = 0.5
    """Slope, per nat, of the sigmoid that maps the probe's entropies to the number of initial trajectories; used when
    num_initial_trajectories is left out."""

    reads_change = True

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """As `ArpoRuleConfig`, where no penalty acts; a penalty needs places left after the first branch."""
        yield from super().inert_keys(use)
        yield from _probe_slope(use)
        fills = self.branch_factor >= use.num_places
        if fills:
            why = "where one branch fills every leaf that branches can"
            yield InertKey("rule.penalty_slope", why, "lower rule.branch_factor or num_initial_trajectories", 0.05)
        if self.gamma == 0:
            yield _unread_normalizer("with rule.gamma = 0")
        elif self.alpha == self.tau and (fills or self.penalty_slope == 0 or self.alpha == 0):
            level = f"rule.alpha = rule.tau = {self.tau}" + " and no branch penalty" * (self.alpha != 0)
            yield from only_the_sign_counts("gamma", self.gamma, 0.2, level, use)

    def never_branches(self) -> str | None:
        """P = alpha, or less, for every change of entropy."""
        return _constant("gamma", self.alpha, self.tau) if self.gamma == 0 and self.alpha <= self.tau else None


def _probe_slope(use: Use) -> list[InertKey]:
    if use.num_initial is None:
        return []
    why = f"with num_initial_trajectories = {use.num_initial}, so no probe runs"
    return [InertKey("rule.probe_slope", why, "leave num_initial_trajectories out", 0.5)]


class AepoReleasedRuleConfig(ReleasedRuleConfig):
    """The rule of the public AEPO code: the coin of `arpo_released`, penalised per task."""

    type: Literal["aepo_released"] = "aepo_released"
    """`aepo_released`: a coin biased by entropy and by the group's consecutive branches."""
    penalty_slope: float = Field(default=0.05, ge=0)
    """Penalty per consecutive round in which the group gained a path."""
    probe_slope: _ProbeSlope = 0.5
    """Slope of the sigmoid that maps the probe's entropies to the number of initial trajectories; used when
    num_initial_trajectories is left out."""

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """As `ReleasedRuleConfig`; a penalty needs a place left after the first branch; of two leaves N is 1 or 2 by a sign."""
        yield from super().inert_keys(use)
        yield from _probe_slope(use)
        if use.num_initial is None and use.group_size == 2:
            why, instead = "with group_size = 2, where only its sign counts", "raise group_size"
            yield InertKey("rule.probe_slope", why, instead, math.copysign(0.5, self.probe_slope))
            if self.entropy_weight == 0:
                yield InertKey("entropy_normalizer", why, instead, "log_vocab")
        if use.num_places == 1:
            why = "where branches fill one leaf of the group"
            yield InertKey("rule.penalty_slope", why, "raise group_size or lower num_initial_trajectories", 0.05)

    def reads_probe(self, use: Use) -> bool:
        """Whether a probe runs."""
        return use.num_initial is None

    def never_branches(self) -> str | None:
        """The probability is 0 for every change of entropy."""
        if self.branch_probability < 1 or self.entropy_weight != 0:
            return None
        return (
            "rule.branch_probability = 1 with rule.entropy_weight = 0: no draw exceeds it, so nothing could branch; set "
            "rule.branch_probability below 1, or choose rule.type = 'none'"
        )


Rate = Annotated[float, Field(ge=0, le=1)]


class RandomRuleConfig(_RuleConfig):
    """The control: branch at a fixed rate, whatever the entropy."""

    type: Literal["random"] = "random"
    """`random`: branch at random."""
    rate: Rate | Annotated[tuple[Rate, ...], Field(min_length=1)] = 0.5
    """Probability of a branch after a tool result: one number, or one per turn; the last holds for later turns. The measured
    rates of another rule make a control that differs only in *where* it branches."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per branch, the original excluded."""

    def never_branches(self) -> str | None:
        """Every rate is 0."""
        if any(self.rate) if isinstance(self.rate, tuple) else self.rate:
            return None
        return "rule.rate = 0: nothing could branch; set it above 0, or choose rule.type = 'none'"


class ThresholdRuleConfig(_RuleConfig):
    """Branch where the entropy after a tool result exceeds a bound, in nats."""

    type: Literal["threshold"] = "threshold"
    """`threshold`: branch where entropy is high."""
    threshold: Annotated[float, Field(gt=0)] | Literal["adaptive"] = "adaptive"
    """Bound, nats; `adaptive`: mean + num_std * std over recent tool results of the tree."""
    num_std: Annotated[float, only_with(threshold="adaptive")] = Field(default=1.0, ge=0)
    """Standard deviations above the mean."""
    num_recent: Annotated[int, only_with(threshold="adaptive")] = Field(default=20, ge=2)
    """Tool results in the sliding window, or more: those of this turn, and of earlier turns until there are as many."""
    max_branches: int = Field(default=4, ge=1)
    """Most new paths per branch, the original excluded."""

    count_keys = ("max_branches",)


class TokenEntropyRuleConfig(_RuleConfig):
    """Fork inside completions, before the most uncertain tokens of the whole group; a rule of our own."""

    type: Literal["token_entropy"] = "token_entropy"
    """`token_entropy`: branch at tokens, not at tool results."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per token, the original excluded."""


class RandomTokenRuleConfig(_RuleConfig):
    """The control of `token_entropy`: fork inside completions, before tokens drawn at random."""

    type: Literal["random_token"] = "random_token"
    """`random_token`: branch at random tokens, not at tool results."""
    branch_factor: int = Field(default=1, ge=1)
    """New paths per token, the original excluded."""


class EptreeRuleConfig(_RuleConfig):
    """Fork each tree before its tokens of highest entropy, once its paths have ended (TreeRL, arXiv:2506.11902).

    The paper's numbers: M = num_initial_trajectories, N = tokens_per_tree, T = branch_factor; L follows from group_size =
    M * (1 + L * N * T).
    """

    type: Literal["eptree"] = "eptree"
    """`eptree`: branch at the most uncertain tokens of each tree."""
    tokens_per_tree: int = Field(default=2, ge=1)
    """Tokens of each tree at which a round forks (N). A tree is an initial trajectory with what grew from it."""
    branch_factor: int = Field(default=2, ge=1)
    """New paths per token, the original excluded (T)."""

    count_keys = ("tokens_per_tree", "branch_factor")

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """The paths at one token may be all that is missing."""
        yield from super().inert_keys(use)
        if 1 < use.num_places <= self.branch_factor:
            why = "where one fork fills every leaf that branches can"
            yield InertKey("rule.tokens_per_tree", why, "lower rule.branch_factor or num_initial_trajectories", 2)


class RandomNodeRuleConfig(_RuleConfig):
    """Fork at steps drawn uniformly from each tree, once its paths have ended (Tree-GRPO, arXiv:2509.21240).

    The paper's numbers: M = num_initial_trajectories, N = nodes_per_tree; L follows from group_size = M * (1 + L * N).
    """

    type: Literal["random_node"] = "random_node"
    """`random_node`: branch before steps drawn at random."""
    nodes_per_tree: int = Field(default=2, ge=1)
    """Draws from each tree in a round, each for one new path (N). A tree is an initial trajectory with what grew from it."""

    count_keys = ()  # the number of draws decides which trees the last leaves go to


class AppoRuleConfig(_RuleConfig):
    """Fork each initial trajectory before its tokens of the highest branching score (APPO, arXiv:2606.12384).

    The score is the token's entropy times the discounted likelihood gain of the later tokens, each as a z-score over the
    trajectory. The gain is that of a slightly sharper policy, our choice: the paper's policy in the midst of its updates does
    not exist while a tree grows.
    """

    type: Literal["appo"] = "appo"
    """`appo`: branch at unsure tokens after which the trajectory grew likely."""
    branches_per_trajectory: int = Field(default=3, ge=1)
    """Most new paths per initial trajectory, each at a token of its own (B)."""
    half_life: float = Field(default=32.0, gt=0)
    """Distance, in sampled tokens, at which a later token counts half."""

    count_keys = ("branches_per_trajectory",)

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """A bound that no trajectory can exceed, as branches fill fewer leaves."""
        yield from super().inert_keys(use)
        most, default = use.num_places, 3
        if 1 < most <= self.branches_per_trajectory:
            why = f"at {most} or more, as branches fill {most} leaves of the group"
            instead = "raise group_size or lower num_initial_trajectories"
            same = range(most, max(default, self.branches_per_trajectory) + 1)
            yield InertKey("rule.branches_per_trajectory", why, instead, max(most, default), same)


class MixedOutcomesRuleConfig(_RuleConfig):
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

    reads_change = True

    def inert_keys(self, use: Use) -> Iterator[InertKey]:
        """Only the sign and the order of the changes of entropy count."""
        most = math.floor(self.max_branch_share * use.group_size + 0.5)
        use = replace(use, num_initial=max(1, use.group_size - most))
        yield from super().inert_keys(use)
        why = "with rule.type = 'mixed_outcomes', where only the sign and the order of the entropy's changes count"
        yield InertKey("entropy_normalizer", why, "choose rule.type = 'arpo', alpha and tau apart", "log_vocab", use.scales)


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
    | EptreeRuleConfig
    | RandomNodeRuleConfig
    | AppoRuleConfig
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
        if self.rule.type == "appo" and self.entropy_estimator == "surprisal":
            raise ValueError(
                "entropy_estimator = 'surprisal' with rule.type = 'appo': the likelihood gain of a token, log-prob plus "
                "entropy, would be 0 everywhere and nothing could branch; set it to 'exact' or 'top_k'"
            )
        if isinstance(self.rule, MixedOutcomesRuleConfig):
            self._check_mixed_outcomes(self.rule)
        if (reason := self.rule.never_branches()) is not None:
            raise ValueError(reason)
        for inert in self.inert_keys():
            value = value_at(self, inert.key)
            if inert.refuses(value):
                raise ValueError(inert.refusal(value))
        return self

    def _check_mixed_outcomes(self, rule: MixedOutcomesRuleConfig) -> None:
        """The rule plans N itself."""
        if self.num_initial_trajectories is not None:
            raise ValueError(
                f"num_initial_trajectories = {self.num_initial_trajectories} with rule.type = 'mixed_outcomes', which takes "
                f"the number from the task's earlier groups; leave it out, or choose rule.type = 'arpo'"
            )
        if rule.max_branch_share * self.group_size < 0.5:
            raise ValueError(
                f"rule.max_branch_share = {rule.max_branch_share} of group_size = {self.group_size} is less than half a "
                f"trajectory, so nothing could branch; raise one of them"
            )

    def inert_keys(self) -> list[InertKey]:
        """The keys of the rule, and `entropy_normalizer`, none of whose values changes a decision to branch."""
        use = Use(group_size=self.group_size, num_initial=self.num_initial_trajectories, window=self.entropy_window)
        return list(self.rule.inert_keys(use))

    @property
    def top_k(self) -> int | None:
        """Number of most likely tokens in an entropy; None: the full vocabulary."""
        return self.entropy_top_k if self.entropy_estimator == "top_k" else None
