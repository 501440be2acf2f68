"""Statistics of what branching did, over any number of trees."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from arpo.tree.branching import Fate, ForkRecord, ResultRecord, fork_records, initial_entropies, result_records
from arpo.tree.entropy import clustered_error
from arpo.tree.tree import RolloutTree

UNSURE = 0.1
"""Mean entropy of the window, nats, above which the start of a trajectory counts as unsure."""


class BranchingStatistics:
    """Which tool results raised the entropy, which of them branched, and what the branches earned; holds sums only."""

    def __init__(self) -> None:
        """No trees yet."""
        self._num_trees = self._num_starts = self._num_unsure = 0
        self._initial_entropy = 0.0
        self._results: dict[str, _ResultSums] = {}
        self._forks: dict[tuple[int, str | None], _ForkSums] = {}

    def add(self, tree: RolloutTree) -> None:
        """Count a finished tree."""
        starts = initial_entropies(tree)
        self._num_starts += len(starts)
        self._num_unsure += sum(entropy > UNSURE for entropy in starts)
        self._initial_entropy += sum(starts)
        for result in result_records(tree):
            self._results.setdefault(result.tool, _ResultSums()).add(result)
        for fork in fork_records(tree):
            self._forks.setdefault((fork.turn, fork.tool), _ForkSums()).add(fork, self._num_trees)
        self._num_trees += 1

    def summary(self) -> dict[str, Any]:
        """The statistics, JSON-serialisable; an empty mean or share is None.

        `initial_entropy`: mean entropy of the window at the start of a trajectory from the prompt, nats, each once;
        `unsure_start_rate`: share of them above 0.1 nats.
        `results` and `results_by_tool`, tools with most results first: `entropy_after`, mean entropy of the window, nats, and
        `rise_rate`, share of the measured results with entropy_delta > 0, both by the results' shares (`node_shares`), so that
        they compare between algorithms; `fates` and `rise_fates`, number of all results and of those with entropy_delta > 0 by
        what became of them (`arpo.tree.branching.Fate`); `branched_rate` and `rise_branched_rate`, shares of these that
        branched.
        `forks`, `forks_by_turn` and `forks_by_tool`, those inside completions included (tool None): `original_reward` and
        `branch_reward`, mean over the forks of the mean reward of the leaves below the original and below the branches;
        `reward_gain`, their difference, and `reward_gain_error`, its standard error clustered by tree; `mixed_rate`, share of
        the forks with right and wrong leaves below.
        """
        results = {tool: sums.summary() for tool, sums in self._results.items()}
        return {
            "initial_entropy": _ratio(self._initial_entropy, self._num_starts),
            "unsure_start_rate": _ratio(self._num_unsure, self._num_starts),
            "results": _ResultSums.joined(self._results.values()).summary(),
            "results_by_tool": _most_frequent_first(results, "num_results"),
            "forks": _ForkSums.joined(self._forks.values()).summary(),
            "forks_by_turn": [{"turn": turn, **figures} for turn, figures in sorted(self._forks_by(0).items())],
            "forks_by_tool": _most_frequent_first(self._forks_by(1), "num_forks"),
        }

    def _forks_by(self, part: int) -> dict[Any, dict[str, Any]]:
        """The figures of forks by one part of their key: 0, the turn; 1, the tool."""
        groups: dict[Any, list[_ForkSums]] = {}
        for key, sums in self._forks.items():
            groups.setdefault(key[part], []).append(sums)
        return {value: _ForkSums.joined(group).summary() for value, group in groups.items()}


def measure_branching(trees: Iterable[RolloutTree]) -> dict[str, Any]:
    """`BranchingStatistics.summary` over the trees."""
    statistics = BranchingStatistics()
    for tree in trees:
        statistics.add(tree)
    return statistics.summary()


@dataclass(slots=True)
class _ResultSums:
    fates: Counter[str] = field(default_factory=Counter[str])
    rise_fates: Counter[str] = field(default_factory=Counter[str])
    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("windows", "entropy", "measured", "rises"), 0.0))
    """Sums of shares: of the results with a window, the same times its entropy, of those with a change, of those that rose."""

    def add(self, result: ResultRecord) -> None:
        self.fates[result.fate] += 1
        self.rise_fates[result.fate] += result.is_rise
        self.weights["measured"] += result.share * (result.entropy_delta is not None)
        self.weights["rises"] += result.share * result.is_rise
        if result.entropy_after is not None:
            self.weights["windows"] += result.share
            self.weights["entropy"] += result.share * result.entropy_after

    @classmethod
    def joined(cls, parts: Iterable["_ResultSums"]) -> "_ResultSums":
        whole = cls()
        for part in parts:
            whole.fates += part.fates
            whole.rise_fates += part.rise_fates
            for name, weight in part.weights.items():
                whole.weights[name] += weight
        return whole

    def summary(self) -> dict[str, Any]:
        num_results, num_rises = self.fates.total(), self.rise_fates.total()
        return {
            "num_results": num_results,
            "entropy_after": _ratio(self.weights["entropy"], self.weights["windows"]),
            "rise_rate": _ratio(self.weights["rises"], self.weights["measured"]),
            "branched_rate": _ratio(self.fates["branched"], num_results),
            "rise_branched_rate": _ratio(self.rise_fates["branched"], num_rises),
            "fates": {fate: self.fates[fate] for fate in get_args(Fate)},
            "rise_fates": {fate: self.rise_fates[fate] for fate in get_args(Fate)},
        }


@dataclass(slots=True)
class _ForkSums:
    counts: Counter[str] = field(default_factory=Counter[str])
    original_reward: float = 0.0
    branch_reward: float = 0.0
    gains: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    """Tree -> number and sum of the gains of its forks."""

    def add(self, fork: ForkRecord, tree: int) -> None:
        self.counts.update(forks=1, branches=fork.num_branches)
        if fork.is_mixed is not None:
            self.counts.update(graded=1, mixed=fork.is_mixed)
        if fork.original_reward is not None and fork.branch_reward is not None:
            self.original_reward += fork.original_reward
            self.branch_reward += fork.branch_reward
            self._add_gains(tree, 1, fork.branch_reward - fork.original_reward)

    def _add_gains(self, tree: int, count: int, total: float) -> None:
        before_count, before_total = self.gains.get(tree, (0, 0.0))
        self.gains[tree] = (before_count + count, before_total + total)

    @classmethod
    def joined(cls, parts: Iterable["_ForkSums"]) -> "_ForkSums":
        whole = cls()
        for part in parts:
            whole.counts += part.counts
            whole.original_reward += part.original_reward
            whole.branch_reward += part.branch_reward
            for tree, (count, total) in part.gains.items():
                whole._add_gains(tree, count, total)
        return whole

    def summary(self) -> dict[str, Any]:
        rewarded = sum(count for count, _ in self.gains.values())
        gain = _ratio(sum(total for _, total in self.gains.values()), rewarded)
        return {
            "num_forks": self.counts["forks"],
            "num_branches": self.counts["branches"],
            "original_reward": _ratio(self.original_reward, rewarded),
            "branch_reward": _ratio(self.branch_reward, rewarded),
            "reward_gain": gain,
            "reward_gain_error": None if gain is None else clustered_error(self.gains, gain, rewarded),
            "mixed_rate": _ratio(self.counts["mixed"], self.counts["graded"]),
        }


def _most_frequent_first(by_tool: Mapping[Any, dict[str, Any]], count: str) -> list[dict[str, Any]]:
    tools = sorted(by_tool, key=lambda tool: (-by_tool[tool][count], tool is None, tool or ""))
    return [{"tool": tool, **by_tool[tool]} for tool in tools]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
