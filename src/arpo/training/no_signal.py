"""Says when a run learns nothing, why by the counts of its trajectories, and what to try."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from typing import Any

from arpo.rewards.scoring import rewards_of
from arpo.tree import RolloutTree

MIN_STEPS = 3
"""Steps in a row without signal that are reported while the run goes on."""
MAX_SAMPLE_CHARS = 4000
"""A longer trajectory is shown without its middle."""
_MOST = 0.5
"""Share of the trajectories, or calls, from which a cause is taken for the cause."""

Row = Mapping[str, Any]


@dataclass(slots=True, frozen=True, kw_only=True)
class NoSignal:
    """Steps in a row in which every advantage was 0, and what their trajectories were like."""

    first_step: int
    last_step: int
    num_trajectories: int
    faults: dict[str, int]
    """Format fault -> trajectories with it, most frequent first; `no_answer` among them."""
    num_malformed: int | None
    """Trajectories with any format fault; None where the reward did not measure it."""
    num_truncated: int
    """Trajectories that a token or turn limit cut."""
    reward_min: float
    reward_max: float
    reward_mean: float
    tool_calls: dict[str, int]
    """Tool -> its calls."""
    tool_errors: dict[str, int]
    """Tool -> its calls that failed: errors, timeouts and refusals."""
    sample: str = ""
    """One trajectory as the model saw it, prompt included; empty where no tree is at hand. Control characters are escaped."""
    sample_of: str = ""
    """Task, reward and reason of the sample."""
    advice: list[str] = field(default_factory=list[str])
    """What to try, the likeliest first."""

    def describe(self) -> str:
        """The paragraph for people."""
        steps = (
            f"step {self.last_step}" if self.first_step == self.last_step else f"steps {self.first_step} to {self.last_step}"
        )
        failed = [f"{tool} {num} of {self.tool_calls[tool]}" for tool, num in self.tool_errors.items() if num]
        lines = [
            f"nothing was learned in {steps}: no group has rewards that differ, so every advantage is 0",
            f"  rewards: {self._rewards()}",
            f"  format faults: {', '.join(f'{name} {num}' for name, num in self.faults.items()) or 'none'}"
            f" (of {self.num_trajectories} trajectories)",
            f"  cut by a token or turn limit: {self.num_truncated} of {self.num_trajectories}",
            f"  tool calls: {sum(self.tool_calls.values())}" + (f"; failed: {', '.join(failed)}" if failed else ""),
            *(f"  try: {advice}" for advice in self.advice),
        ]
        if self.sample:
            lines += [f"  one trajectory ({self.sample_of}):", *(f"    | {line}" for line in self.sample.splitlines())]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The same for `summary.json`."""
        return asdict(self)

    def _rewards(self) -> str:
        if self.reward_min == self.reward_max:
            return f"{self.reward_min:.4g} for every trajectory"
        return f"{self.reward_min:.4g} to {self.reward_max:.4g}, mean {self.reward_mean:.4g}, equal within each group"


def find_no_signal(rows: Sequence[Row], *, group_size: int = 2, tree: RolloutTree | None = None) -> NoSignal:
    """What the latest steps in a row without signal were like.

    Args:
        rows: The run's metrics so far, whose last step has no signal.
        group_size: Trajectories per task.
        tree: A scored tree of the last step, whose first trajectory is the sample; None: no sample.
    """
    silent = list(takewhile(_is_silent, reversed(rows)))
    counts = [row["rollout/num_trajectories"] for row in silent]
    total = sum(counts)

    def weighted(name: str) -> float:
        return sum(row.get(name, 0.0) * n for row, n in zip(silent, counts, strict=True))

    is_format_known = any("rollout/format_valid_rate" in row for row in silent)
    tool_calls, tool_errors = _count_calls(silent)
    sample, sample_of = _sample(tree)
    found = NoSignal(
        first_step=silent[-1]["step"],
        last_step=silent[0]["step"],
        num_trajectories=int(total),
        faults=_sum_by_name(silent, "fault/"),
        num_malformed=round(total - weighted("rollout/format_valid_rate")) if is_format_known else None,
        num_truncated=round(weighted("rollout/truncated_rate")),
        reward_min=min(row["rollout/reward_min"] for row in silent),
        reward_max=max(row["rollout/reward_max"] for row in silent),
        reward_mean=weighted("rollout/reward_mean") / total,
        tool_calls=tool_calls,
        tool_errors=tool_errors,
        sample=sample,
        sample_of=sample_of,
    )
    found.advice.extend(_advise(found, silent, group_size))
    return found


def is_reported(rows: Sequence[Row]) -> bool:
    """Whether the last row completes `MIN_STEPS` steps in a row without signal; a longer stretch is not told again."""
    latest = [_is_silent(row) for row in rows[-MIN_STEPS - 1 :]]
    return len(latest) >= MIN_STEPS and all(latest[-MIN_STEPS:]) and not (len(latest) > MIN_STEPS and latest[0])


def learned_nothing(rows: Sequence[Row]) -> bool:
    """Whether a finished run has no step with signal, or none in its last `MIN_STEPS` steps or more."""
    return bool(rows) and all(map(_is_silent, rows[-MIN_STEPS:]))


def _is_silent(row: Row) -> bool:
    """Whether every advantage of the step was 0; rows of a former version, which lack a metric, say nothing."""
    return "rollout/num_trajectories" in row and row["train/groups_zero_advantage"] == row["train/groups"]


def _sum_by_name(rows: Sequence[Row], prefix: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        for name, count in row.items():
            if name.startswith(prefix):
                sums[name.removeprefix(prefix)] = sums.get(name.removeprefix(prefix), 0) + round(count)
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _count_calls(rows: Sequence[Row]) -> tuple[dict[str, int], dict[str, int]]:
    """Tool -> its calls, and tool -> its calls that failed."""
    calls: dict[str, int] = {}
    errors: dict[str, int] = {}
    for row in rows:
        for name, num in row.items():
            if name.startswith("tool/") and name.endswith("/calls"):
                tool = name.removeprefix("tool/").removesuffix("/calls")
                calls[tool] = calls.get(tool, 0) + round(num)
                errors[tool] = errors.get(tool, 0) + round(num * (1 - row[f"tool/{tool}/success_rate"]))
    return calls, errors


def _sample(tree: RolloutTree | None) -> tuple[str, str]:
    """The first trajectory, and what it earned."""
    if tree is None:
        return "", ""
    trajectory = tree.trajectories()[0]
    text = "".join(node.text for node in trajectory.nodes)
    if len(text) > MAX_SAMPLE_CHARS:
        half = MAX_SAMPLE_CHARS // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"
    text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    reward = rewards_of([tree])[0]
    about = f"task {trajectory.task.id}, reward {reward.value:.4g}" + (f", {reward.reason}" if reward.reason else "")
    return text, about


def _advise(found: NoSignal, rows: Sequence[Row], group_size: int) -> list[str]:
    """What to try, by what most trajectories have in common."""
    advice: list[str] = []
    total = found.num_trajectories
    if group_size == 1:
        return ["rollout.group_size above 1: a group of one has nothing to compare with"]
    if found.num_truncated >= _MOST * total:
        advice.append(
            "higher agent.limits.max_turn_tokens and max_trajectory_tokens: most trajectories were cut before they could answer"
        )
    if found.num_malformed is not None and found.num_malformed >= _MOST * total:
        advice.append(
            "a cold start (`arpo sft`) on conversations in this format, or a prompt that shows it: the policy does not write "
            "what agent.protocol reads (see the trajectory)"
        )
    for tool, failed in found.tool_errors.items():
        if failed and failed >= _MOST * found.tool_calls[tool]:
            advice.append(f"`arpo tool call {tool} ...` by hand: most of its calls failed")
    if all(row.get("rollout/distinct_answers_per_task", 2.0) <= 1 for row in rows) and not advice:
        advice.append("rollout.temperature = 1 or above: the trajectories of a task all give the same answer")
    solved = all(row.get("rollout/accuracy", 0.0) == 1.0 for row in rows)
    if solved:
        advice.append("harder tasks, or task_filter and dynamic_sampling: every answer was right")
    elif not advice:
        advice.append("`arpo eval` of the model on these tasks: perhaps its answers are right and the reward does not see it")
    if not solved:
        advice.append("easier tasks, or a larger rollout.group_size, so that some answers of a group are right")
    return advice
