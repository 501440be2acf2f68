"""Which options do something in which combination: whatever would silently do nothing is refused. Torch-free.

What a section can know by itself it checks itself; here are the checks across sections. The values that an algorithm's preset
takes from its paper are exempt where a run makes them inert (clip bounds when every ratio is 1): `inert_terms` says so once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arpo.rollout.config import RolloutConfig
from arpo.training.algorithm_config import AdvantageConfig, LossConfig
from arpo.training.presets import read_preset

if TYPE_CHECKING:
    from arpo.training.config import RlRun

_RATIO_KEYS = ("clip_low", "clip_high", "low_mode", "high_mode", "dual_clip")


def require_effects(run: RlRun) -> None:
    """Refuse options without effect.

    Raises:
        ValueError: one has none; the message names its key and value, why, and what to set instead.
    """
    _check_first_update(run)
    _check_group(run.rollout, run.advantage)
    _check_sharing(run.rollout, run.advantage)
    _check_sequence_ratio(run.advantage, run.loss)
    _check_attribution(run)
    _check_ratio(run)
    _check_mismatch(run)
    _check_dynamic_sampling(run)
    _check_task_filter(run)
    _check_overlong(run)
    _check_reward(run)


def inert_terms(run: RlRun) -> list[str]:
    """Lines to print once: values of the preset's paper that this run makes inert."""
    if _has_moving_ratio(run):
        return []
    keys = [f"loss.{key}" for key in read_preset(run.algorithm).keys["loss"] if key in _ratio_values(run.loss)]
    if not keys:
        return []
    return [
        f"{', '.join(keys)}: as the preset {run.algorithm!r} sets them, without effect here: with updates_per_step = 1 and "
        f"epochs_per_step = 1 every ratio is 1"
    ]


def _check_first_update(run: RlRun) -> None:
    """Every loss but `reinforce` has the ratio to the policy that sampled, which the updates after a step's first one need."""
    for key in ("updates_per_step", "epochs_per_step"):
        if run.loss.type == "reinforce" and getattr(run, key) > 1:
            raise ValueError(
                f"{key} = {getattr(run, key)} with loss.type = 'reinforce': it has no ratio between the policy that is trained "
                f"and the one that sampled, so that its gradient is right for a step's first update only; set {key} = 1 or "
                f"loss.type = 'ppo_clip'"
            )


def _check_group(rollout: RolloutConfig, advantage: AdvantageConfig) -> None:
    if rollout.group_size > 1:
        return
    parts = [f"advantage.baseline = {advantage.baseline!r}"] * (advantage.baseline != "none")
    parts += [f"advantage.scale = {advantage.scale!r}"] * (advantage.scale == "group_std")
    if parts:
        raise ValueError(
            f"rollout.group_size = 1: with {' and '.join(parts)} the advantage of a group of one is always 0, so nothing would "
            f"be learned; set it to 2 or more, or set advantage.baseline = 'none' and advantage.scale = 'batch_std' or 'none'"
        )


def _check_sharing(rollout: RolloutConfig, advantage: AdvantageConfig) -> None:
    """Without branches no two trajectories share a sampled token."""
    if rollout.rule.type != "none":
        return
    why = "with rollout.rule.type = 'none', as independent trajectories share no sampled token"
    instead = "or choose a branching rule, e.g. rollout.rule.type = 'arpo'"
    if advantage.attribution != "soft":
        raise _no_effect("advantage.attribution", advantage.attribution, why, f"leave it at 'soft' {instead}")
    if advantage.leaf_weighting != "uniform":
        raise _no_effect("advantage.leaf_weighting", advantage.leaf_weighting, why, f"leave it at 'uniform' {instead}")
    if advantage.baseline == "subtree_out":
        raise _no_effect(
            "advantage.baseline", advantage.baseline, f"of its own {why}", f"say 'leave_one_out', which it then is, {instead}"
        )
    if advantage.type == "tree_grpo":
        raise _no_effect(
            "advantage.type", advantage.type, "with rollout.rule.type = 'none', as every tree has one trajectory",
            f"set it to 'outcome' {instead}",
        )  # fmt: skip


def _check_sequence_ratio(advantage: AdvantageConfig, loss: LossConfig) -> None:
    """GSPO clips one ratio per trajectory against one advantage per trajectory."""
    if loss.type != "gspo":
        return
    faults = {
        "advantage.attribution": (advantage.attribution, "soft"),
        "advantage.baseline": (advantage.baseline, "leave_one_out") if advantage.baseline == "subtree_out" else None,
        "advantage.type": (advantage.type, "outcome") if advantage.type == "gigpo" else None,
        "advantage.entropy_scale": (advantage.entropy_scale, 0.0),
    }
    for key, fault in faults.items():
        if fault is not None and fault[0] != fault[1]:
            raise ValueError(
                f"{key} = {fault[0]!r} gives the tokens of a trajectory different advantages, but loss.type = 'gspo' has one "
                f"ratio and one advantage per trajectory; set {key} = {fault[1]!r} or loss.type = 'ppo_clip'"
            )


def _check_attribution(run: RlRun) -> None:
    """Soft, hard and mixed sum to the same wherever the loss is linear in the advantage."""
    value = run.advantage.attribution
    if value == "soft":
        return
    if run.loss.type in ("cispo", "reinforce"):
        raise _no_effect(
            "advantage.attribution", value, f"with loss.type = {run.loss.type!r}, which is linear in the advantage: the "
            f"sharers' mean and the sharers one by one add up to the same", "leave it at 'soft' or set loss.type = 'ppo_clip'",
        )  # fmt: skip
    if not _has_moving_ratio(run):
        raise _no_effect(
            "advantage.attribution", value, _WHY_RATIO + " and the sharers' mean adds up to the sharers one by one",
            "leave it at 'soft' or set updates_per_step or epochs_per_step to 2 or more",
        )  # fmt: skip


def _check_ratio(run: RlRun) -> None:
    """With a single update per step, what treats the ratio does nothing; the preset's own values are exempt."""
    if _has_moving_ratio(run) or run.loss.type == "reinforce":
        return
    preset = read_preset(run.algorithm).resolve().loss
    instead = "set updates_per_step or epochs_per_step to 2 or more, or"
    if run.loss.type != preset.type:
        raise _no_effect(
            "loss.type", run.loss.type, _WHY_RATIO + ", where every loss has the gradient of 'reinforce'",
            f"{instead} set it to 'reinforce' or leave it at the preset's {preset.type!r}",
        )  # fmt: skip
    published = _ratio_values(preset)
    for key, value in _ratio_values(run.loss).items():
        if value != published[key]:
            raise _no_effect(f"loss.{key}", value, _WHY_RATIO, f"{instead} leave it at the preset's {published[key]!r}")


def _check_mismatch(run: RlRun) -> None:
    level, cap = run.correction.level, run.mismatch.cap
    if level == "none" and cap is not None:
        raise _no_effect(
            "mismatch.cap", cap, f"with engine.type = {run.engine.type!r}, which runs the trainer's own model and needs no "
            f"correction", "leave it out or set mismatch.level = 'token' or 'sequence'",
        )  # fmt: skip
    if level == "token" and run.loss.type == "gspo":
        raise ValueError(
            "mismatch.level = 'token' with loss.type = 'gspo', whose ratio belongs to the whole trajectory; set mismatch.level "
            "= 'sequence' or 'none'"
        )


def _check_dynamic_sampling(run: RlRun) -> None:
    rounds = run.dynamic_sampling.max_rounds
    if rounds and run.advantage.baseline == "none":
        raise _no_effect(
            "dynamic_sampling.max_rounds", rounds, "with advantage.baseline = 'none', where groups of equal rewards teach too",
            "set it to 0 or set advantage.baseline = 'group_mean'",
        )  # fmt: skip


def _check_task_filter(run: RlRun) -> None:
    after = run.task_filter.after
    if after and run.advantage.baseline == "none":
        raise ValueError(
            f"task_filter.after = {after} would leave out tasks that teach: with advantage.baseline = 'none' groups of equal "
            f"rewards do too; set it to 0 or set advantage.baseline = 'group_mean'"
        )


def _check_overlong(run: RlRun) -> None:
    limit, overlong = run.agent.limits.max_trajectory_tokens, run.overlong
    if overlong.penalty == 0 or overlong.max_tokens is None:
        return
    begins = overlong.max_tokens * (1 - overlong.resolved_buffer)
    if begins >= limit:
        raise _no_effect(
            "overlong.max_tokens", overlong.max_tokens, f"as its penalty begins at {begins:g} tokens and trajectories end at "
            f"agent.limits.max_trajectory_tokens = {limit}", "lower it, or leave it out to mean that limit",
        )  # fmt: skip


def _check_reward(run: RlRun) -> None:
    terms, tools = run.reward.composite, list(run.agent.protocol.tools)
    if terms is None:
        return
    key, why = "reward.composite", f"with agent.protocol.tools = {tools}"
    if terms.multi_tool_bonus and len(tools) < 2:
        raise _no_effect(f"{key}.multi_tool_bonus", terms.multi_tool_bonus, why, "name two tools or more, or leave it out")
    if terms.tool_cost and not tools:
        raise _no_effect(f"{key}.tool_cost", terms.tool_cost, why, "name a tool, or leave it out")


_WHY_RATIO = "with updates_per_step = 1 and epochs_per_step = 1: every ratio is 1"


def _has_moving_ratio(run: RlRun) -> bool:
    """Whether the policy moves between sampling and some update, so that ratios leave 1."""
    return run.updates_per_step * run.epochs_per_step > 1


def _ratio_values(loss: LossConfig) -> dict[str, object]:
    return {key: getattr(loss, key) for key in _RATIO_KEYS if hasattr(loss, key)}


def _no_effect(key: str, value: object, why: str, instead: str) -> ValueError:
    return ValueError(f"{key} = {value!r} has no effect {why}; {instead}")
