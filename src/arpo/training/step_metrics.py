"""Metrics of a step: of its trees and of its updates."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import torch
from torch import Tensor

from arpo.batching.policy_batch import TreeCredit
from arpo.rewards.scoring import mean_scores, rewards_of
from arpo.training.collector import StepRollouts
from arpo.training.config import RlRun
from arpo.training.credit import leaf_rewards
from arpo.training.group_signal import differs_in_correctness
from arpo.training.reference import RewardKl
from arpo.training.update import UpdateTotals
from arpo.tree import Node, RolloutTree
from arpo.tree.branching_statistics import measure_branching
from arpo.tree.statistics import measure_trees
from arpo.types import StopReason


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
    leaves = [leaf for tree in trees for leaf in tree.leaves()]
    rewards = [reward for tree in trees for reward in leaf_rewards(tree).tolist()]
    calls = [len(t.tool_results) for tree in trees for t in tree.trajectories()]
    statistics = measure_trees(trees, window=window)
    return {
        **{f"rollout/{name}": value for name, value in mean_scores(rewards_of(trees)).items()},
        **{f"rollout/{name}": statistics[name] or 0.0 for name in _TREE_METRICS},
        "train/entropy": statistics["entropy"] or 0.0,
        **_branching_metrics(trees),
        "rollout/reward_std": stdev(rewards) if len(rewards) > 1 else 0.0,
        "rollout/dropped_trees": rollouts.num_dropped,
        "rollout/rounds": rollouts.num_rounds,
        "rollout/groups_replaced": len(rollouts.replaced),
        "rollout/tool_calls_per_trajectory": fmean(calls),
        "rollout/truncated_rate": sum(_is_truncated(leaf) for leaf in leaves) / len(leaves),
        "rollout/mixed_group_rate": sum(map(differs_in_correctness, trees)) / len(trees),
        "rollout/tokens_per_s": statistics["tokens_sampled"] / seconds,
        **environment,
    }


def measure_update(totals: UpdateTotals, credits: Sequence[TreeCredit], config: RlRun) -> dict[str, float]:
    """The `train/` metrics of a step; those of terms that are off are absent.

    Args:
        totals: Sums over the step's updates.
        credits: Of the trees it could learn from.
        config: The run.
    """
    sums = totals.sums

    def share(name: str, of: str) -> float:
        return sums[name] / max(1.0, sums[of])

    metrics = {
        "train/loss": totals.loss / max(1, len(totals.grad_norms)),
        "train/grad_norm": fmean(totals.grad_norms) if totals.grad_norms else 0.0,
        "train/updates": len(totals.grad_norms),
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
        metrics |= {"train/policy_kl": share("policy_kl", "num_tokens"), "train/ratio_max": totals.ratio_max}
    if config.mismatch.level != "none":
        metrics["train/truncated_fraction"] = share("truncated", "num_corrections")
    if config.loss.kl.is_in_loss:
        metrics["train/kl"] = share("kl", "num_tokens")
    return metrics


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


def _branching_metrics(trees: Sequence[RolloutTree]) -> dict[str, float]:
    found = measure_branching(trees)
    metrics = {
        "rollout/initial_entropy": found["initial_entropy"],
        "rollout/entropy_rise_rate": found["results"]["rise_rate"],
        "rollout/mixed_fork_rate": found["forks"]["mixed_rate"],
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _is_truncated(leaf: Node) -> bool:
    return leaf.stop_reason is StopReason.LENGTH or not leaf.is_done
