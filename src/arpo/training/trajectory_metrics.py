"""Metrics of trajectories: their rewards, lengths, turns and faults."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev

from arpo.rewards.format import format_faults
from arpo.rewards.scoring import mean_components, mean_scores, rewards_of
from arpo.training.group_signal import differs_in_reward
from arpo.tree import RolloutTree, Trajectory
from arpo.types import StopReason


def measure_rewards(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """The metrics of the rewards of a step's scored trees, their components by name among them.

    Example: two trees of rewards 1, 1 and 0, 1: mean 0.75, least 0, most 1, and half of the groups without a spread.
    """
    rewards = rewards_of(trees)
    values = [reward.value for reward in rewards]
    return {
        **{f"rollout/{name}": value for name, value in mean_scores(rewards).items()},
        **({"rollout/reward_std": stdev(values)} if len(values) > 1 else {}),
        "rollout/reward_min": min(values),
        "rollout/reward_max": max(values),
        "rollout/reward_zero_std_rate": 1 - sum(map(differs_in_reward, trees)) / len(trees),
        **{f"reward/{name}": value for name, value in mean_components(rewards).items()},
    }


def measure_trajectories(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """The metrics of the lengths, turns, calls and faults of a step's trajectories."""
    trajectories = [trajectory for tree in trees for trajectory in tree.trajectories()]
    lengths = [trajectory.num_sampled_tokens for trajectory in trajectories]
    turns = [num_turns(trajectory) for trajectory in trajectories]
    return {
        "rollout/num_trajectories": len(trajectories),
        "rollout/prompt_length_mean": fmean(len(tree.root.token_ids) for tree in trees),
        "rollout/response_length_mean": fmean(lengths),
        "rollout/response_length_min": min(lengths),
        "rollout/response_length_max": max(lengths),
        "rollout/num_turns_mean": fmean(turns),
        "rollout/num_turns_max": max(turns),
        "rollout/tool_calls_per_trajectory": fmean(len(trajectory.tool_results) for trajectory in trajectories),
        "rollout/truncated_rate": fmean(map(is_truncated, trajectories)),
        **{f"fault/{name}": count for name, count in sorted(count_faults(trajectories).items())},
    }


def num_turns(trajectory: Trajectory) -> int:
    """Turns of the policy: one before each observation, and the one that ends the trajectory unless a limit did."""
    return trajectory.leaf.turn + trajectory.leaf.is_sampled


def is_truncated(trajectory: Trajectory) -> bool:
    """Whether a token or turn limit cut the trajectory."""
    return trajectory.leaf.stop_reason is StopReason.LENGTH or not trajectory.leaf.is_done


def count_faults(trajectories: Sequence[Trajectory]) -> Counter[str]:
    """Format fault -> trajectories that have it."""
    return Counter(fault for trajectory in trajectories for fault in set(format_faults(trajectory)))
