"""Metrics of a step's trees."""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from arpo.rewards.scoring import mean_scores
from arpo.tools.executor import ExecutorCounts
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import StopReason


def measure_rollout(
    trees: Sequence[RolloutTree], counts: ExecutorCounts, *, window: int, num_planned: int, seconds: float
) -> dict[str, float]:
    """The `rollout/` metrics of some scored trees.

    Args:
        trees: One per task.
        counts: What the executor did for them.
        window: Tokens after a tool result that count as near it.
        num_planned: Initial trajectories per tree; further children of a root are top-ups.
        seconds: Time it took to grow and score them.
    """
    nodes = [n for tree in trees for n in tree.nodes]
    leaves = [leaf for tree in trees for leaf in tree.leaves()]
    rewards = [leaf.reward or 0.0 for leaf in leaves]
    after_tool, elsewhere = split_entropies(trees, window)
    opportunities = [n for n in nodes if n.entropy_delta is not None]
    num_branches = sum(n.is_branch for n in nodes)
    num_from_prompt = [len(tree.children[0]) for tree in trees]
    num_sampled = sum(len(n.token_ids) for n in nodes if n.is_sampled)
    calls = [len(t.observations) for tree in trees for t in tree.trajectories()]
    return {
        **{f"rollout/{name}": value for name, value in mean_scores(trees).items()},
        "rollout/reward_std": stdev(rewards) if len(rewards) > 1 else 0.0,
        "rollout/entropy_after_tool": fmean(after_tool) if after_tool else 0.0,
        "rollout/entropy_elsewhere": fmean(elsewhere) if elsewhere else 0.0,
        "rollout/num_opportunities": len(opportunities),
        "rollout/num_branches": num_branches,
        "rollout/branch_rate": num_branches / len(opportunities) if opportunities else 0.0,
        "rollout/num_initial": sum(min(n, num_planned) for n in num_from_prompt),
        "rollout/num_topups": sum(max(0, n - num_planned) for n in num_from_prompt),
        "rollout/leaves_per_group": len(leaves) / len(trees),
        "rollout/tool_calls_issued": counts.issued,
        "rollout/tool_calls_executed": counts.executed,
        "rollout/tool_calls_per_trajectory": fmean(calls),
        "rollout/tool_error_rate": (counts.errors + counts.timeouts) / max(1, counts.issued),
        "rollout/refused_rate": counts.refused / max(1, counts.issued),
        "rollout/truncated_rate": sum(_is_truncated(leaf) for leaf in leaves) / len(leaves),
        "rollout/tokens_sampled": num_sampled,
        "rollout/tokens_unique": sum(tree.num_unique_tokens for tree in trees),
        "rollout/tokens_trajectory": sum(tree.num_trajectory_tokens for tree in trees),
        "rollout/mixed_group_rate": fmean(len({leaf.reward for leaf in tree.leaves()}) > 1 for tree in trees),
        "rollout/tokens_per_s": num_sampled / seconds,
    }


def split_entropies(trees: Iterable[RolloutTree], window: int) -> tuple[list[float], list[float]]:
    """Entropies of sampled tokens among the first `window` after a tool result, and of all others; shared tokens once."""
    after_tool: list[float] = []
    elsewhere: list[float] = []
    for tree in trees:
        for node in tree.nodes:
            entropies = node.entropies or []
            near = window if node.parent is not None and tree.nodes[node.parent].kind is NodeKind.OBSERVATION else 0
            after_tool += entropies[:near]
            elsewhere += entropies[near:]
    return after_tool, elsewhere


def _is_truncated(leaf: Node) -> bool:
    called = leaf.parse is not None and leaf.parse.tool_call is not None
    return leaf.stop_reason is StopReason.LENGTH or called or leaf.kind is NodeKind.OBSERVATION
