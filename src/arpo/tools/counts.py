"""Counts of tool calls by outcome and tool, and the metrics made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from arpo.types import ToolResult

UNKNOWN = "(unknown)"
"""Name under which calls of unknown tools are counted."""


@dataclass(slots=True)
class ToolCounts:
    """Outcomes of the calls of one tool, or of all tools."""

    issued: int = 0
    """Calls of the policy, refused ones included: executed + cached + refused + calls of unknown tools."""
    executed: int = 0
    """Calls that ran."""
    cached: int = 0
    """Calls answered by the cache or by an identical call under way."""
    errors: int = 0
    """Results with status `error`, of unknown tools too."""
    timeouts: int = 0
    """Results with status `timeout`."""
    refused: int = 0
    """Calls beyond the trajectory's limit."""
    truncated: int = 0
    """Results that were cut, by the tool or to `max_result_tokens`."""
    retries: int = 0
    """Retries after transient failures."""
    seconds: float = 0.0
    """Wall time of all calls, waits included."""
    latencies: list[float] = field(default_factory=list[float])
    """Wall time of each call that ran, in seconds, waits included."""

    def add(self, result: ToolResult, *, was_executed: bool) -> None:
        """Count one call."""
        self.issued += 1
        self.executed += was_executed
        self.cached += result.cached
        self.errors += result.status == "error"
        self.timeouts += result.status == "timeout"
        self.refused += result.status == "refused"
        self.truncated += result.truncated
        self.seconds += result.seconds
        if was_executed:
            self.latencies.append(result.seconds)

    def include(self, other: "ToolCounts") -> None:
        """Add the counts of another process."""
        for name in (count.name for count in fields(ToolCounts)):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class ExecutorCounts(ToolCounts):
    """Outcomes of all calls, and of each tool's calls."""

    per_tool: dict[str, ToolCounts] = field(default_factory=dict[str, ToolCounts])
    """Counts by tool name; calls of unknown tools are under `(unknown)`."""

    def of_call(self, name: str) -> tuple[ToolCounts, ToolCounts]:
        """The counts that a call of a tool belongs to: those of all calls, and the tool's."""
        return self, self.per_tool.setdefault(name, ToolCounts())


def sum_counts(counts: Sequence[ExecutorCounts]) -> ExecutorCounts:
    """The counts of several processes as those of one."""
    total = ExecutorCounts()
    for of_process in counts:
        total.include(of_process)
        for name, of_tool in of_process.per_tool.items():
            total.of_call(name)[1].include(of_tool)
    return total


def tool_metrics(counts: ExecutorCounts) -> dict[str, float]:
    """The `rollout/` metrics of all calls, and the `tool/<name>/` metrics of each called tool; rates without a call are absent.

    Example:
        {"rollout/tool_calls_issued": 8, ..., "tool/python/calls": 8, "tool/python/success_rate": 0.75, ...}
    """
    metrics: dict[str, float] = {
        "rollout/tool_calls_issued": counts.issued,
        "rollout/tool_calls_executed": counts.executed,
    }
    if counts.issued:
        metrics["rollout/tool_error_rate"] = (counts.errors + counts.timeouts) / counts.issued
        metrics["rollout/refused_rate"] = counts.refused / counts.issued
    for name, tool_counts in sorted(counts.per_tool.items()):
        if name != UNKNOWN:
            metrics |= {f"tool/{name}/{metric}": value for metric, value in _metrics(tool_counts).items()}
    return metrics


def _metrics(counts: ToolCounts) -> dict[str, float]:
    calls = counts.issued
    failed = counts.errors + counts.timeouts + counts.refused
    metrics: dict[str, float] = {
        "calls": calls,
        "success_rate": (calls - failed) / calls,
        "error_rate": counts.errors / calls,
        "timeout_rate": counts.timeouts / calls,
        "cached_rate": counts.cached / calls,
        "truncated_rate": counts.truncated / calls,
        "retries": counts.retries,
    }
    if counts.latencies:
        latencies = sorted(counts.latencies)
        metrics["latency_mean_s"] = sum(latencies) / len(latencies)
        metrics["latency_p95_s"] = latencies[(95 * len(latencies) - 1) // 100]  # the least that 95 % do not exceed
    return metrics
