"""Statistics of trees: branches, answers, tool calls and tokens, and the cost of independent trajectories for comparison."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from arpo.tree.entropy import sampled_nodes
from arpo.tree.shares import node_shares
from arpo.tree.tree import RolloutTree, Trajectory


class TreeStatistics:
    """Statistics over any number of trees, added one by one; holds counts only.

    *Independent* trajectories are the same leaves sampled one by one: a token or tool call that d of them share counts d times.
    Entropies count every token by its share (`node_shares`), so that they are what independent trajectories would show and
    trees with and without branches compare; tokens of other figures count once.

    Example: a call, its result, and two leaves that go on from there are 1 tool call issued, 2 independent ones.
    """

    def __init__(self, *, window: int, read_answer: Callable[[str], str] = str.strip) -> None:
        """No trees yet.

        Args:
            window: Number of sampled tokens after a tool result that count as near it.
            read_answer: Normalises answers before they are compared.
        """
        self._window = window
        self._read_answer = read_answer
        self._counts: Counter[str] = Counter()
        self._opportunities: Counter[int] = Counter()
        self._branches: Counter[int] = Counter()
        self._leaves_per_initial: Counter[int] = Counter()
        self._after_tool, self._elsewhere = _WeightedMean(), _WeightedMean()
        self._distinct: list[int] = []
        self._distinct_calls: list[int] = []
        self._agreement: list[float] = []

    def add(self, tree: RolloutTree) -> None:
        """Count a finished tree."""
        self._count_branches(tree)
        self._count_calls(tree)
        self._count_tokens(tree)
        self._compare_answers(tree)
        self._distinct_calls.append(len({_call_sequence(t) for t in tree.trajectories()}))

    def summary(self) -> dict[str, Any]:
        """The statistics, JSON-serialisable; an empty mean is None.

        `num_opportunities`: tool results that got a score from the rule, as leaves were missing; `num_branches`: new paths, the
        originals excluded; `branch_rate`: branches per opportunity, and `branch_rate_by_turn` the same by turn
        (0: inside the first completion). `num_initial` and `num_topups`: planned and further trajectories from the prompt;
        `leaves_per_initial_trajectory`: number of leaves -> number of trajectories from the prompt, top-ups included, with it.
        `tool_calls_issued` = executed + cached + refused + without_result (no room for the result, or refused by the
        limit again); `tool_errors` counts results with status error or timeout.
        `entropy` of the sampled tokens, nats, and of them `entropy_after_tool`, the first `window` after a tool result, and
        `entropy_elsewhere`.
        `tokens_sampled` and `tokens_unique` (prompts and results included), each also for independent trajectories.
        `distinct_call_sequences_per_task`: different sequences of tool calls among a tree's trajectories, arguments as
        written; `distinct_answers_per_task`: different answers of a tree; `answer_agreement`: probability that two of a tree's
        answers, drawn without replacement, are equal; `no_answer_rate`: share of leaves without one.
        """
        counts, num_trees = self._counts, self._counts["trees"]
        leaves, calls = counts["leaves"], counts["calls"]
        return {
            "num_trees": num_trees,
            "num_trajectories": leaves,
            "leaves_per_group": _ratio(leaves, num_trees),
            "num_initial": counts["initial"],
            "num_topups": counts["topups"],
            "num_opportunities": self._opportunities.total(),
            "num_branches": self._branches.total(),
            "branch_rate": _ratio(self._branches.total(), self._opportunities.total()),
            "entropy": self._after_tool.plus(self._elsewhere).value,
            "entropy_after_tool": self._after_tool.value,
            "entropy_elsewhere": self._elsewhere.value,
            "tool_calls_issued": calls,
            "tool_calls_independent": counts["calls_independent"],
            "tool_calls_executed": counts["executed"],
            "tool_calls_cached": counts["cached"],
            "tool_calls_refused": counts["refused"],
            "tool_calls_without_result": calls - counts["executed"] - counts["cached"] - counts["refused"],
            "tool_errors": counts["errors"],
            "tokens_sampled": counts["sampled"],
            "tokens_sampled_independent": counts["sampled_independent"],
            "tokens_unique": counts["unique"],
            "tokens_trajectory": counts["trajectory"],
            "distinct_answers_per_task": fmean(self._distinct) if self._distinct else None,
            "distinct_call_sequences_per_task": fmean(self._distinct_calls) if self._distinct_calls else None,
            "answer_agreement": fmean(self._agreement) if self._agreement else None,
            "no_answer_rate": _ratio(counts["no_answer"], leaves),
            "leaves_per_initial_trajectory": {str(n): self._leaves_per_initial[n] for n in sorted(self._leaves_per_initial)},
            "branch_rate_by_turn": [
                {
                    "turn": turn,
                    "num_opportunities": self._opportunities[turn],
                    "num_branches": self._branches[turn],
                    "branch_rate": _ratio(self._branches[turn], self._opportunities[turn]),
                }
                for turn in sorted(self._opportunities.keys() | self._branches.keys())
            ],
        }

    def _count_branches(self, tree: RolloutTree) -> None:
        leaves = tree.leaves()
        num_from_prompt = sum(not tree.nodes[child].is_branch for child in tree.children[0])
        num_initial = min(num_from_prompt, tree.settings.get("num_initial", num_from_prompt))
        self._counts.update(trees=1, leaves=len(leaves), initial=num_initial, topups=num_from_prompt - num_initial)
        self._opportunities.update(n.turn for n in tree.nodes if n.branch_score is not None)
        self._branches.update(n.turn for n in tree.nodes if n.is_branch)
        self._leaves_per_initial.update(Counter(tree.path(leaf)[1].id for leaf in leaves).values())

    def _count_calls(self, tree: RolloutTree) -> None:
        for node in tree.nodes:
            self._counts["calls"] += len(node.calls)
            for result in node.results:
                fate = "refused" if result.status == "refused" else "cached" if result.cached else "executed"
                self._counts[fate] += 1
                self._counts["errors"] += result.status in ("error", "timeout")
        self._counts["calls_independent"] += sum(len(node.calls) for t in tree.trajectories() for node in t.nodes)

    def _count_tokens(self, tree: RolloutTree) -> None:
        shares = node_shares(tree)
        for node, source, distance in sampled_nodes(tree):
            near = max(0, self._window - distance) if source is not None else 0
            entropies = node.entropies or []
            self._after_tool.add(entropies[:near], shares[node.id])
            self._elsewhere.add(entropies[near:], shares[node.id])
        self._counts.update(
            sampled=sum(len(node.token_ids) for node in tree.nodes if node.is_sampled),
            sampled_independent=sum(t.num_sampled_tokens for t in tree.trajectories()),
            unique=tree.num_unique_tokens,
            trajectory=tree.num_trajectory_tokens,
        )

    def _compare_answers(self, tree: RolloutTree) -> None:
        parses = [trajectory.final_parse for trajectory in tree.trajectories()]
        answers = [parse.answer for parse in parses if parse is not None and parse.answer is not None]
        self._counts["no_answer"] += len(parses) - len(answers)
        counts = Counter(self._read_answer(answer) for answer in answers)
        self._distinct.append(len(counts))
        if len(answers) > 1:
            pairs = len(answers) * (len(answers) - 1)
            self._agreement.append(sum(n * (n - 1) for n in counts.values()) / pairs)


def measure_trees(trees: Sequence[RolloutTree], *, window: int) -> dict[str, Any]:
    """`TreeStatistics.summary` over the trees."""
    statistics = TreeStatistics(window=window)
    for tree in trees:
        statistics.add(tree)
    return statistics.summary()


@dataclass(slots=True)
class _WeightedMean:
    """Mean of values of some weights, added up; None without any."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, values: Sequence[float], weight: float) -> None:
        self.total += weight * sum(values)
        self.weight += weight * len(values)

    def plus(self, other: "_WeightedMean") -> "_WeightedMean":
        return _WeightedMean(self.total + other.total, self.weight + other.weight)

    @property
    def value(self) -> float | None:
        return _ratio(self.total, self.weight)


def _call_sequence(trajectory: Trajectory) -> tuple[tuple[str, str], ...]:
    calls = [call for node in trajectory.nodes for call in node.calls]
    return tuple((call.name, json.dumps(call.arguments, sort_keys=True)) for call in calls)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
