"""Parts of an algorithm besides its branch rule: advantage, loss, correction, sampling and shaping. Torch-free."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from arpo.conditions import IS_SET, above, only_with
from arpo.config import Config


class _AdvantageConfig(Config):
    """Keys of every kind of advantage."""

    baseline: Literal["group_mean", "leave_one_out", "subtree_out", "none"] = "group_mean"
    """Subtracted from a trajectory's reward. `group_mean`: its group's mean; `leave_one_out`: the mean of the group's other
    trajectories; `subtree_out`: on each node, the mean of the trajectories that do not pass it; `none`: nothing."""
    scale: Literal["group_std", "batch_std", "none"] = "group_std"
    """Divisor of the difference. `group_std`: the standard deviation of the group's rewards (n - 1); `batch_std`:
    advantages are centred and divided by the mean and standard deviation over all trained tokens of the step."""
    epsilon: Annotated[float, only_with(scale=("group_std", "batch_std"), entropy_scale=above(0))] = Field(default=1e-6, gt=0)
    """Added to a standard deviation before it divides."""
    attribution: Literal["soft", "hard", "once", "mixed"] = "soft"
    """Advantage of a trajectory on shared tokens. `soft`: its own advantage (the ARPO paper's choice); `hard`: the plain mean
    over the sharers; `once`: that mean, and the token counts once instead of once per sharer, in the loss and in its lengths;
    `mixed`: `mix` of the mean weighted as the loss weighs the sharers, and 1 - `mix` of its own. `mixed`, and `hard` where the
    sharers weigh alike, differ from `soft` only where a ratio is clipped."""
    mix: Annotated[float, only_with(attribution="mixed")] = Field(default=0.5, gt=0, lt=1)
    """Share of the mean in `mixed`."""
    leaf_weighting: Literal["uniform", "inverse_branching"] = "uniform"
    """`uniform`: trajectories count alike (the papers); `inverse_branching`: each fork divides its parent's weight among its
    children, so that an initial trajectory counts alike however often it branched; means and standard deviations follow."""
    entropy_scale: float = Field(default=0.0, ge=0)
    """AEPO's a: advantages of a token are multiplied by 1 + a * z, z its entropy less the mean, over the standard deviation,
    of the distinct tokens sampled in the step; 0: off."""

    @model_validator(mode="after")
    def _check_baseline(self) -> "_AdvantageConfig":
        if self.attribution == "once" and self.leaf_weighting == "inverse_branching":
            raise ValueError(
                "advantage.attribution = 'once' with advantage.leaf_weighting = 'inverse_branching': each divides the weight "
                "of a shared token among its sharers, and together they do so twice; leave one of them at its default ('soft', "
                "'uniform')"
            )
        kind = getattr(self, "type", "outcome")
        if kind != "outcome" and self.baseline != "group_mean":
            raise ValueError(
                f"advantage.baseline = {self.baseline!r} has no effect with advantage.type = {kind!r}, which centres groups on "
                f"their means; leave it at 'group_mean' or set advantage.type = 'outcome'"
            )
        return self


class OutcomeAdvantageConfig(_AdvantageConfig):
    """Advantages from the reward of whole trajectories (GRPO, DAPO, RLOO, REINFORCE++, ARPO, AEPO)."""

    type: Literal["outcome"] = "outcome"
    """`outcome`: baseline and scale alone."""


class GigpoAdvantageConfig(_AdvantageConfig):
    """As `outcome`, and each step is compared with the steps in the same situation (GiGPO, arXiv:2505.10978).

    A step is what a trajectory samples between two observations. Its group is the steps of the task's trajectories that follow
    an observation of the same text, or the prompt; its return is discount^(steps left) * reward.
    """

    type: Literal["gigpo"] = "gigpo"
    """`gigpo`: outcome advantage + step_weight * step advantage, both centred and scaled as `scale` says."""
    step_weight: float = Field(default=1.0, gt=0)
    """Weight of the step advantage (omega)."""
    discount: float = Field(default=0.95, gt=0, le=1)
    """Discount per step (gamma)."""


class TreeGrpoAdvantageConfig(_AdvantageConfig):
    """Trajectories compared within their tree and across all trees of the task (Tree-GRPO, arXiv:2509.21240).

    A tree is what grew from one initial trajectory; a tree of one trajectory adds 0.
    """

    type: Literal["tree_grpo"] = "tree_grpo"
    """`tree_grpo`: advantage within the trajectory's own tree + advantage in the whole group."""


class TreerlAdvantageConfig(_AdvantageConfig):
    """What a step adds to the mean reward of the task and of the step before (TreeRL, arXiv:2506.11902).

    A step is a stretch between forks; its value is the mean reward of the trajectories that pass it. The trajectories that
    share a token share its advantage, which is divided by the root of their number.
    """

    type: Literal["treerl"] = "treerl"
    """`treerl`: global + local advantage of each step."""
    scale: Literal["group_std", "batch_std", "none"] = "none"
    """As with `outcome`; `none` in the paper."""

    @model_validator(mode="after")
    def _check_sharers(self) -> "TreerlAdvantageConfig":
        if self.attribution in ("hard", "mixed"):
            raise ValueError(
                f"advantage.attribution = {self.attribution!r} has no effect with advantage.type = 'treerl', where the sharers "
                f"of a token have one advantage; leave it at 'soft', or set it to 'once'"
            )
        return self


class AppoAdvantageConfig(_AdvantageConfig):
    """Trajectories from the prompt compared among themselves and with the branches; they alone train (APPO, arXiv:2606.12384).

    The advantage of a token is multiplied by 1 + future_weight * A_fut, A_fut being the ratio of the rest of its trajectory,
    discounted and clipped.
    """

    type: Literal["appo"] = "appo"
    """`appo`: mean of the advantages in both groups; branches have no loss."""
    future_weight: float = Field(default=0.5, ge=0)
    """Weight of A_fut (b); 0: off."""
    future_clip_low: Annotated[float, only_with(future_weight=above(0))] = Field(default=0.0, ge=0, lt=1)
    """Distance below 1 at which A_fut is clipped."""
    future_clip_high: Annotated[float, only_with(future_weight=above(0))] = Field(default=0.2, gt=0)
    """Distance above 1 at which A_fut is clipped."""
    future_half_life: Annotated[float, only_with(future_weight=above(0))] = Field(default=32.0, gt=0)
    """Distance, in sampled tokens, at which a later token counts half."""

    @model_validator(mode="after")
    def _check_sharers(self) -> "AppoAdvantageConfig":
        for key in ("attribution", "leaf_weighting"):
            value, default = getattr(self, key), type(self).model_fields[key].default
            if value != default:
                raise ValueError(
                    f"advantage.{key} = {value!r} has no effect with advantage.type = 'appo', where each token trains for one "
                    f"trajectory alone; leave it at {default!r} or set advantage.type = 'outcome'"
                )
        return self


AdvantageConfig = Annotated[
    OutcomeAdvantageConfig | GigpoAdvantageConfig | TreeGrpoAdvantageConfig | TreerlAdvantageConfig | AppoAdvantageConfig,
    Field(discriminator="type"),
]


class KlConfig(Config):
    """KL divergence from a reference policy."""

    short_for = "coefficient"

    coefficient: float = Field(default=0.0, ge=0)
    """Weight of the KL, per nat; 0: none, and no reference model is loaded."""
    estimator: Annotated[Literal["k1", "k2", "k3"], only_with(coefficient=above(0))] = "k3"
    """With d = ln p_policy - ln p_reference of a token: `k1`: d, taken off the reward as `level` says; in the loss, per token:
    `k2`: d^2 / 2, `k3`: exp(-d) - 1 + d."""
    level: Annotated[Literal["token", "sequence"], only_with(estimator="k1")] = "sequence"
    """Where k1 is taken off. `sequence`: its sum over the trajectory's sampled tokens, off the trajectory's reward, before
    baseline and scale (RLOO, arXiv:2402.14740). `token`: its sum from a token on, the KL still to come, off that token's
    advantage, after baseline and group_std, before batch_std (REINFORCE++, arXiv:2501.03262, equation 8; verl's KL in the
    reward, TRL's token_level_kl). Default in a run: `token` with advantage.baseline none or advantage.scale batch_std, unless
    loss.type is gspo; else `sequence`."""
    reference: Annotated[Path | None, only_with(coefficient=above(0))] = None
    """The reference, named as `model.path` names a model; None: the policy the run starts from."""
    reference_revision: Annotated[str | None, only_with(reference=IS_SET)] = None
    """Branch, tag or commit of a reference that is a hub model; None: its main branch."""

    @property
    def is_in_reward(self) -> bool:
        """Whether the KL is subtracted from rewards."""
        return self.coefficient > 0 and self.estimator == "k1"

    @property
    def is_in_loss(self) -> bool:
        """Whether the KL is a term of the loss."""
        return self.coefficient > 0 and self.estimator != "k1"


class _LossConfig(Config):
    """Keys of every policy loss."""

    aggregation: Literal["token_mean", "sequence_mean", "constant"] = "token_mean"
    """`token_mean`: tokens count alike over the whole batch; `sequence_mean`: trajectories count alike; `constant`: the sum
    over tokens, divided by the number of trajectories times agent.limits.max_trajectory_tokens (Dr. GRPO)."""
    kl: KlConfig = KlConfig()
    """KL divergence from a reference policy."""
    entropy_coefficient: float = Field(default=0.0, ge=0)
    """Reward, per nat, for the entropy of a token's distribution; 0: none."""


class PpoClipLossConfig(_LossConfig):
    """PPO's clipped surrogate, and by its modes AEPO's and GPPO's."""

    type: Literal["ppo_clip"] = "ppo_clip"
    """`ppo_clip`: ratio per token, clipped."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Distance below 1 at which the ratio is clipped where the advantage is negative."""
    clip_high: float = Field(default=0.2, gt=0)
    """Distance above 1 at which the ratio is clipped where the advantage is positive."""
    low_mode: Literal["hard", "gppo"] = "hard"
    """Gradient of a token clipped below: `hard`: none (PPO); `gppo`: kept, with the bound as its factor."""
    high_mode: Literal["hard", "gppo"] = "hard"
    """The same above. AEPO: low hard, high gppo; GPPO: both gppo."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Largest ratio where the advantage is negative; above 1 + clip_high. None: unbounded, as in PPO."""

    @model_validator(mode="after")
    def _check(self) -> "PpoClipLossConfig":
        if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
            raise ValueError(
                f"loss.dual_clip = {self.dual_clip} is not above 1 + loss.clip_high = {1 + self.clip_high:g}; set it higher "
                f"(the public ARPO code has 3.0) or leave it out"
            )
        return self


class CispoLossConfig(_LossConfig):
    """CISPO (MiniMax-M1, arXiv:2506.13585): the ratio is a clipped weight without gradient; every token keeps its gradient."""

    type: Literal["cispo"] = "cispo"
    """`cispo`: clipped weight times log-prob."""
    clip_low: float | None = Field(default=None, gt=0, lt=1)
    """Distance below 1 at which the weight is clipped; None: no lower bound, as in the paper."""
    clip_high: float = Field(default=4.0, gt=0)
    """Distance above 1 at which the weight is clipped."""


class GspoLossConfig(_LossConfig):
    """GSPO (arXiv:2507.18071): one ratio per trajectory, the geometric mean of its tokens'."""

    type: Literal["gspo"] = "gspo"
    """`gspo`: ratio per trajectory, clipped."""
    clip_low: float = Field(default=3e-4, gt=0, lt=1)
    """Distance below 1 at which the ratio is clipped where the advantage is negative."""
    clip_high: float = Field(default=4e-4, gt=0)
    """Distance above 1 at which the ratio is clipped where the advantage is positive."""


class ReinforceLossConfig(_LossConfig):
    """Minus advantage times log-prob, without ratio: right for a step's first update only; more are an error."""

    type: Literal["reinforce"] = "reinforce"
    """`reinforce`: no ratio."""


LossConfig = Annotated[PpoClipLossConfig | CispoLossConfig | GspoLossConfig | ReinforceLossConfig, Field(discriminator="type")]


class MismatchConfig(Config):
    """Truncated importance sampling: corrects for an engine whose probabilities differ from the trainer's."""

    level: Literal["none", "token", "sequence"] = "none"
    """Policy loss times min(p_trainer / p_engine, cap) `token` by token, or by the product over the `sequence`. Default:
    `none` where the engine runs the trainer's own model; else `token`, or `sequence` with loss.type gspo."""
    cap: Annotated[float, only_with(level=("token", "sequence"))] = Field(default=2.0, ge=1)
    """Largest weight."""


class DynamicSamplingConfig(Config):
    """Groups whose answers are all right or all wrong are replaced by groups of further tasks (DAPO, arXiv:2503.14476).

    What is right is `Reward.is_correct`: partial credit and penalties do not count. Where it is not known (no references, and
    a reward that does not say), groups of equal rewards are replaced.
    """

    max_rounds: int = Field(default=0, ge=0)
    """Most rounds of further tasks per step; 0: off."""


class TaskFilterConfig(Config):
    """Tasks that are always or never solved are filtered."""

    after: int = Field(default=0, ge=0)
    """Groups without signal in a row, all solved in every trajectory or all unsolved, after which a task is filtered for the
    rest of the run; `tasks_per_step` tasks always stay. 0: off."""


class OverlongConfig(Config):
    """A soft penalty on the reward of trajectories that sample too much (DAPO, arXiv:2503.14476, equation 13)."""

    penalty: float = Field(default=0.0, ge=0)
    """Subtracted from the reward of a trajectory that samples max_tokens or more; 0: off."""
    max_tokens: Annotated[int | None, only_with(penalty=above(0))] = Field(default=None, ge=1)
    """Sampled tokens of a trajectory at which the penalty is full; prompt and observations do not count, as the policy does not
    write them (in the paper a trajectory is one completion). None: agent.limits.max_trajectory_tokens."""
    buffer: Annotated[float, only_with(penalty=above(0))] = Field(default=0.2, gt=0, le=1)
    """Last share of max_tokens, over which the penalty rises from 0 (4096 of 20480 in the paper)."""
