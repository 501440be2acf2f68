"""Refuses values that have no effect, or harm, with those of another section of the run. Torch-free.

Values that a preset takes from its paper are exempt where a run makes them inert (clip bounds when every ratio is 1);
`inert_terms` says so once. What has no effect beside other keys of `rollout` alone stands in `rollout/inert_keys.py`.
"""

from dataclasses import dataclass

from arpo.conditions import Condition, above, at_least, one_of, other_than, shown
from arpo.config import Config, dotted, value_at
from arpo.rollout.config import RolloutConfig
from arpo.training.algorithm_config import AdvantageConfig, AppoAdvantageConfig, LossConfig
from arpo.training.presets import read_preset


@dataclass(frozen=True, slots=True)
class _Needs:
    """Values of a key that need certain values of another key."""

    key: str
    """Dotted."""
    when: Condition
    """Values with the need."""
    other: str
    """Dotted name of the other key."""
    must: Condition
    """Values that the other key must have."""
    why: str
    """Consequence of other values."""
    instead: str
    """Remedy at the key itself."""

    def check(self, run: Config) -> None:
        """Raise ValueError where the run has such a value and the other key has another one than it must."""
        value, actual = value_at(run, self.key), value_at(run, self.other)
        if value is not None and self.when.holds(value) and not self.must.holds(actual):
            raise ValueError(
                f"{self.key} = {shown(value)} with {self.other} = {shown(actual)}: {self.why}; {self.instead}, or set "
                f"{self.must.of(self.other)}"
            )


_ONE_UPDATE = (
    "it has no ratio of the trained policy to the one that sampled, so its gradient is right for a step's first update only"
)
_ALONE = "the advantage of a group of one is then always 0, and nothing would be learned"
_UNSHARED = "it has no effect, as independent trajectories share no sampled token"
_SEQUENCE = "it gives the tokens of a trajectory different advantages, but this loss has one ratio and one advantage"
_ALL_TEACH = "groups of equal rewards teach too and must not be replaced or filtered"

_BRANCHING = other_than("none")
_NEEDS = (
    _Needs("updates_per_step", above(1), "loss.type", other_than("reinforce"), _ONE_UPDATE, "set it to 1"),
    _Needs("epochs_per_step", above(1), "loss.type", other_than("reinforce"), _ONE_UPDATE, "set it to 1"),
    _Needs("rollout.group_size", one_of(1), "advantage.baseline", one_of("none"), _ALONE, "set it to 2 or more"),
    _Needs("rollout.group_size", one_of(1), "advantage.scale", other_than("group_std"), _ALONE, "set it to 2 or more"),
    _Needs("advantage.attribution", other_than("soft"), "rollout.rule.type", _BRANCHING, _UNSHARED, "leave it at 'soft'"),
    _Needs(
        "advantage.leaf_weighting", other_than("uniform"), "rollout.rule.type", _BRANCHING, _UNSHARED, "leave it at 'uniform'"
    ),
    _Needs(
        "advantage.baseline", one_of("subtree_out"), "rollout.rule.type", _BRANCHING, _UNSHARED,
        "set 'leave_one_out', which is then the same",
    ),
    _Needs(
        "advantage.type", one_of("tree_grpo"), "rollout.rule.type", _BRANCHING,
        "it has no effect, as every tree has one trajectory", "set it to 'outcome'",
    ),
    _Needs(
        "advantage.type", one_of("appo"), "rollout.rule.type", _BRANCHING,
        "there is one group, as nothing branches", "set it to 'outcome'",
    ),
    _Needs("advantage.attribution", other_than("soft"), "loss.type", other_than("gspo"), _SEQUENCE, "leave it at 'soft'"),
    _Needs("advantage.baseline", one_of("subtree_out"), "loss.type", other_than("gspo"), _SEQUENCE, "set 'leave_one_out'"),
    _Needs(
        "advantage.type", one_of("treerl"), "rollout.rule.type", _BRANCHING,
        "global and local advantage are then the same, that of the trajectory", "set it to 'outcome'",
    ),
    _Needs(
        "advantage.type", one_of("gigpo", "treerl", "appo"), "loss.type", other_than("gspo"), _SEQUENCE, "set it to 'outcome'"
    ),
    _Needs("advantage.entropy_scale", above(0), "loss.type", other_than("gspo"), _SEQUENCE, "leave it at 0"),
    _Needs("loss.kl.level", one_of("token"), "loss.type", other_than("gspo"), _SEQUENCE, "set it to 'sequence'"),
    _Needs(
        "mismatch.level", one_of("token"), "loss.type", other_than("gspo"), "that ratio belongs to the whole trajectory",
        "set it to 'sequence' or 'none'",
    ),
    _Needs("dynamic_sampling.max_rounds", above(0), "advantage.baseline", other_than("none"), _ALL_TEACH, "set it to 0"),
    _Needs("task_filter.after", above(0), "advantage.baseline", other_than("none"), _ALL_TEACH, "set it to 0"),
    _Needs(
        "reward.composite.multi_tool_bonus", above(0), "agent.protocol.tools", at_least(2), "it has no effect", "leave it out"
    ),
    _Needs("reward.composite.tool_cost", above(0), "agent.protocol.tools", at_least(1), "it has no effect", "leave it out"),
)  # fmt: skip


def refuse_inert_options(run: Config) -> None:
    """Refuse values of a reinforcement-learning run that have no effect, or harm, with those of another section.

    Raises:
        ValueError: the message has key, value, reason and remedy.
    """
    for needs in _NEEDS:
        needs.check(run)
    if _adds_up_to_soft(run) and value_at(run, "loss.type") in ("cispo", "reinforce"):
        raise ValueError(
            f"advantage.attribution = {shown(value_at(run, 'advantage.attribution'))} with "
            f"loss.type = {shown(value_at(run, 'loss.type'))}: it has no effect, as the loss is linear in the advantage: "
            f"{_ADDS_UP}; leave it at 'soft', set it to 'once', or set loss.type other than 'cispo' or 'reinforce'"
        )


_ADDS_UP = "the mean of the sharers adds up to the sharers one by one"


def _adds_up_to_soft(run: Config) -> bool:
    """Whether the attribution differs from `soft` only where a ratio is clipped: sum w_i A_i is the same, and so is sum w_i."""
    attribution = value_at(run, "advantage.attribution")
    weighs_alike = (
        value_at(run, "loss.aggregation") != "sequence_mean" and value_at(run, "advantage.leaf_weighting") == "uniform"
    )
    return attribution == "mixed" or (attribution == "hard" and weighs_alike)


def require_moving_ratio(run: Config, algorithm: str, loss: LossConfig) -> None:
    """Refuse options of the ratio in a run with one update per step; the preset's values are exempt.

    Raises:
        ValueError: as `refuse_inert_options`.
    """
    _require_moving_future(value_at(run, "advantage"))
    if loss.type == "reinforce":
        return
    preset = read_preset(algorithm).resolve().loss
    if loss.type != preset.type:
        raise _inert("loss.type", loss.type, f"leave it at the preset's {preset.type!r}, set it to 'reinforce'")
    published = _ratio_values(preset)
    for key, value in _ratio_values(loss).items():
        if value != published[key]:
            raise _inert(f"loss.{key}", value, f"leave it at the preset's {published[key]!r}")
    if _adds_up_to_soft(run):
        raise _inert("advantage.attribution", value_at(run, "advantage.attribution"), "leave it at 'soft', set it to 'once'")


def inert_terms(
    algorithm: str, rollout: RolloutConfig, advantage: AdvantageConfig, loss: LossConfig, has_moving_ratio: bool
) -> list[str]:
    """Lines to print once: values of the preset `algorithm` that this run makes inert, and why.

    Example: `arpo` sets alpha = tau, so one line says that `rollout.rule.beta` has no effect.
    """
    keys = dotted(read_preset(algorithm).keys)
    published = {key for key in keys if key.startswith("rollout.")} if rollout.rule.type == keys["rollout.rule.type"] else set()
    by_preset = f"of the preset {algorithm!r}, no effect"
    lines = [
        f"rollout.{inert.key} = {shown(value_at(rollout, inert.key))}: {by_preset} {inert.why}"
        for inert in rollout.inert_keys()
        if f"rollout.{inert.key}" in published
    ]
    of_ratio = [*(f"advantage.{key}" for key in _future_values(advantage)), *(f"loss.{key}" for key in _ratio_values(loss))]
    bounds = [key for key in of_ratio if key in keys]
    if bounds and not has_moving_ratio:
        lines.append(f"{', '.join(bounds)}: {by_preset} {_WHY_RATIO}")
    return lines


def _require_moving_future(advantage: AdvantageConfig) -> None:
    for key, value in _future_values(advantage).items():
        default = AppoAdvantageConfig.model_fields[key].default
        if value != default:
            raise _inert(f"advantage.{key}", value, f"leave it at {default!r}")


def _future_values(advantage: AdvantageConfig) -> dict[str, object]:
    is_on = isinstance(advantage, AppoAdvantageConfig) and advantage.future_weight > 0
    return (
        {key: getattr(advantage, key) for key in ("future_clip_low", "future_clip_high", "future_half_life")} if is_on else {}
    )


_WHY_RATIO = "with updates_per_step = 1 and epochs_per_step = 1 every ratio is 1"


def _ratio_values(loss: LossConfig) -> dict[str, object]:
    keys = ("clip_low", "clip_high", "low_mode", "high_mode", "dual_clip")
    return {key: getattr(loss, key) for key in keys if hasattr(loss, key)}


def _inert(key: str, value: object, instead: str) -> ValueError:
    return ValueError(
        f"{key} = {value!r} has no effect: {_WHY_RATIO}; {instead}, or set updates_per_step or epochs_per_step to 2 or more"
    )
