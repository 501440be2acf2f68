"""Metrics of a step: of its trees and of its updates."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from arpo.batching.policy_batch import TreeCredit
from arpo.models.device import drain_device_peak_mb
from arpo.models.process_memory import peak_memory_mb
from arpo.training.collector import StepRollouts
from arpo.training.config import RlRun
from arpo.training.credit import leaf_rewards
from arpo.training.group_signal import differs_in_correctness
from arpo.training.reference import RewardKl
from arpo.training.trajectory_metrics import measure_rewards, measure_trajectories
from arpo.training.update import UpdateTotals
from arpo.tree import RolloutTree
from arpo.tree.branching_statistics import measure_branching
from arpo.tree.statistics import measure_trees


def measure_rollout(
    rollouts: StepRollouts, environment: Mapping[str, float], *, window: int, seconds: float
) -> dict[str, float]:
    """The `rollout/` and `tool/` metrics of a step, and the policy's entropy, over every tree it sampled.

    Args:
        rollouts: The trees.
        environment: Metrics of the environment, of these and of dropped trees.
        window: Tokens after a tool result that count as near it.
        seconds: Time it took to sample and score them.
    """
    trees = rollouts.trees
    statistics = measure_trees(trees, window=window)
    measured = {
        **{f"rollout/{name}": statistics[name] for name in _TREE_METRICS},
        "train/entropy": statistics["entropy"],
        **_branching_metrics(trees),
        "rollout/dropped_trees": rollouts.num_dropped,
        "rollout/rounds": rollouts.num_rounds,
        "rollout/groups_replaced": len(rollouts.replaced),
        "rollout/mixed_group_rate": sum(map(differs_in_correctness, trees)) / len(trees),
        "rollout/tokens_per_s": statistics["tokens_sampled"] / seconds,
    }
    known = {name: value for name, value in measured.items() if value is not None}
    return measure_rewards(trees) | measure_trajectories(trees) | known | dict(environment)


def measure_update(totals: UpdateTotals, credits: Sequence[TreeCredit], config: RlRun) -> dict[str, float]:
    """The `train/` metrics of a step; those of terms that are off, and of updates that were not made, are absent.

    Args:
        totals: Sums over the step's updates.
        credits: Of the trees it could learn from.
        config: The run.
    """
    sums, num_updates = totals.sums, len(totals.grad_norms)

    def share(name: str, of: str) -> float | None:
        return sums[name] / sums[of] if sums[of] else None

    metrics: dict[str, float | None] = {
        "train/loss": totals.loss / num_updates if num_updates else None,
        "train/grad_norm": fmean(totals.grad_norms) if num_updates else None,
        "train/updates": num_updates,
        "train/skipped_updates": totals.num_skipped,
        "train/clip_fraction_low": share("clipped_low", "num_ratios"),
        "train/clip_fraction_high": share("clipped_high", "num_ratios"),
        "train/mismatch_kl": share("mismatch_kl", "num_tokens"),
        "train/tokens_unique": totals.num_computed,
        "train/tokens_total": totals.num_trajectory_tokens,
        "train/groups_zero_advantage": sum(credit.is_zero for credit in credits),
        "train/groups": len(credits),
    }
    if config.updates_per_step * config.epochs_per_step > 1:
        metrics["train/policy_kl"] = share("policy_kl", "num_tokens")
        metrics["train/ratio_max"] = totals.ratio_max if totals.num_computed else None
    if config.mismatch.level != "none":
        metrics["train/truncated_fraction"] = share("truncated", "num_corrections")
    if config.loss.kl.is_in_loss:
        metrics["train/kl"] = share("kl", "num_tokens")
    return {name: value for name, value in metrics.items() if value is not None}


def measure_update_speed(metrics: Mapping[str, float], seconds: float) -> dict[str, float]:
    """`train/tokens_per_s` of an update phase of some seconds; empty where nothing was trained."""
    computed = metrics["train/tokens_unique"]
    return {"train/tokens_per_s": computed / seconds} if computed else {}


def measure_memory(device: torch.device) -> dict[str, float]:
    """The `memory/` metrics: the process's peak so far, and the device's since the last call."""
    device_peak = drain_device_peak_mb(device)
    metrics = {"memory/process_peak_mb": peak_memory_mb()}
    return metrics if device_peak is None else metrics | {"memory/device_peak_mb": device_peak}


def measure_shaping(
    trees: Sequence[RolloutTree], rewards: Sequence[Tensor], reward_kl: RewardKl | None, config: RlRun
) -> dict[str, float]:
    """The `train/` metrics of penalties on rewards; empty without any.

    Args:
        trees: Scored trees.
        rewards: Per tree, the shaped rewards [L] of its leaves.
        reward_kl: The KL taken off them, or off the advantages of tokens; None where it does not act in the reward.
        config: The run.
    """
    metrics = {"train/kl": reward_kl.mean} if reward_kl is not None else {}
    if reward_kl is not None or config.overlong.penalty:
        shaped, graded = torch.cat([*rewards]), torch.cat([leaf_rewards(tree) for tree in trees])
        if reward_kl is not None and config.loss.kl.level == "token":
            shaped = shaped - config.loss.kl.coefficient * torch.cat(reward_kl.leaf_sums)
        metrics["train/reward_shaping"] = float((shaped - graded).mean())
    return metrics


_TREE_METRICS = (
    "entropy_after_tool", "entropy_elsewhere", "num_opportunities", "num_branches", "branch_rate", "num_initial", "num_topups",
    "leaves_per_group", "distinct_answers_per_task", "distinct_call_sequences_per_task", "tokens_sampled", "tokens_unique",
    "tokens_trajectory",
)  # fmt: skip


def _branching_metrics(trees: Sequence[RolloutTree]) -> dict[str, float | None]:
    found = measure_branching(trees)
    return {
        "rollout/initial_entropy": found["initial_entropy"],
        "rollout/entropy_rise_rate": found["results"]["rise_rate"],
        "rollout/mixed_fork_rate": found["forks"]["mixed_rate"],
    }
