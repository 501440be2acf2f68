"""Metrics of a step's trees."""

from collections.abc import Sequence
from statistics import fmean, stdev

from arpo.rewards.scoring import mean_scores
from arpo.tools.executor import ExecutorCounts
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.tree.statistics import measure_trees
from arpo.types import StopReason


def measure_rollout(
    trees: Sequence[RolloutTree], counts: ExecutorCounts, *, window: int, num_dropped: int, seconds: float
) -> dict[str, float]:
    """The `rollout/` metrics of some scored trees.

    Args:
        trees: One per task.
        counts: What the executor did for them, and for trees that were lost.
        window: Tokens after a tool result that count as near it.
        num_dropped: Trees that were lost.
        seconds: Time it took to grow and score them.
    """
    leaves = [leaf for tree in trees for leaf in tree.leaves()]
    rewards = [leaf.reward or 0.0 for leaf in leaves]
    calls = [len(t.observations) for tree in trees for t in tree.trajectories()]
    grown = measure_trees(trees, window=window)
    return {
        **{f"rollout/{name}": value for name, value in mean_scores(trees).items()},
        **{f"rollout/{name}": grown[name] or 0.0 for name in _GROWN},
        "rollout/reward_std": stdev(rewards) if len(rewards) > 1 else 0.0,
        "rollout/dropped_trees": num_dropped,
        "rollout/tool_calls_issued": counts.issued,
        "rollout/tool_calls_executed": counts.executed,
        "rollout/tool_calls_per_trajectory": fmean(calls),
        "rollout/tool_error_rate": (counts.errors + counts.timeouts) / max(1, counts.issued),
        "rollout/refused_rate": counts.refused / max(1, counts.issued),
        "rollout/truncated_rate": sum(_is_truncated(leaf) for leaf in leaves) / len(leaves),
        "rollout/mixed_group_rate": fmean(len({leaf.reward for leaf in tree.leaves()}) > 1 for tree in trees),
        "rollout/tokens_per_s": grown["tokens_sampled"] / seconds,
    }


_GROWN = (
    "entropy_after_tool", "entropy_elsewhere", "num_opportunities", "num_branches", "branch_rate", "num_initial", "num_topups",
    "leaves_per_group", "tokens_sampled", "tokens_unique", "tokens_trajectory",
)  # fmt: skip


def _is_truncated(leaf: Node) -> bool:
    called = leaf.parse is not None and leaf.parse.tool_call is not None
    return leaf.stop_reason is StopReason.LENGTH or called or leaf.kind is NodeKind.OBSERVATION
