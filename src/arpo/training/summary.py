"""The live line of a step and the summary of a run."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from arpo.training.checkpoint import TrainerState
from arpo.training.config import RlRun
from arpo.training.no_signal import NoSignal


def summarize_run(
    config: RlRun, state: TrainerState, rows: Sequence[Mapping[str, Any]], no_signal: NoSignal | None = None
) -> dict[str, Any]:
    """The content of `summary.json`, from the run's metrics, so a resumed run counts as one.

    `no_signal` is None where the run learned; else what its trajectories were like (`training.no_signal`).

    Steps that the former version logged have `time/grow_s` in place of `time/rollout_s`: their `rollout` seconds count as 0.
    """

    def total(name: str) -> float:
        return sum(row.get(name, 0.0) for row in rows)

    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row.get(name) is not None]
        return fmean(values) if values else None

    opportunities, branches = total("rollout/num_opportunities"), total("rollout/num_branches")
    trajectories = total("rollout/num_initial") + branches + total("rollout/num_topups")
    return {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "num_steps": state.step,
        "best_step": state.best_step or state.step,
        "best_accuracy": state.best_accuracy,
        "best_reward": state.best_reward,
        "no_signal": None if no_signal is None else no_signal.as_dict(),
        "entropy_after_tool": mean("rollout/entropy_after_tool"),
        "entropy_elsewhere": mean("rollout/entropy_elsewhere"),
        "branch_rate": branches / opportunities
        if opportunities
        else None,  # a rule may also fork elsewhere than at tool results
        "branch_share": branches / trajectories if trajectories else None,
        "leaves_per_group": mean("rollout/leaves_per_group"),
        "dropped_trees": int(total("rollout/dropped_trees")),
        "groups_replaced": int(total("rollout/groups_replaced")),
        "tasks_filtered": len(state.filtered),
        "tool_calls_issued": int(total("rollout/tool_calls_issued")),
        "tool_calls_executed": int(total("rollout/tool_calls_executed")),
        **{f"{tool}_success_rate": succeeded / num for tool, (num, succeeded) in _tool_calls(rows).items()},
        "tokens_sampled": int(total("rollout/tokens_sampled")),
        "tokens_trained_unique": int(total("train/tokens_unique")),
        "tokens_trained_total": int(total("train/tokens_total")),
        "seconds": {
            "rollout": total("time/rollout_s"),
            "update": total("time/update_s"),
            "validate": total("time/validate_s"),
            "total": total("time/step_s") + total("time/validate_s"),
        },
    }


def broken_tools(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Lines on the tools whose every call failed in these steps."""
    return [
        f"every call of {tool!r} failed ({num:.0f}): the policy learned without it; try `arpo tool call {tool} ...`"
        for tool, (num, succeeded) in _tool_calls(rows).items()
        if not succeeded
    ]


def _tool_calls(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Tool -> its calls, and those that succeeded."""
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        for name, num in row.items():
            if name.startswith("tool/") and name.endswith("/calls"):
                tool = name.removeprefix("tool/").removesuffix("/calls")
                calls, succeeded = found.get(tool, (0.0, 0.0))
                found[tool] = (calls + num, succeeded + num * row[f"tool/{tool}/success_rate"])
    return found


def live_line(metrics: Mapping[str, float]) -> dict[str, float | int | str]:
    """The fields of a step in the progress bar; what was not measured is left out."""
    fields: dict[str, float | int | str] = {
        label: round(metrics[name], 3) for label, name in _LIVE_NUMBERS.items() if name in metrics
    }
    fields |= {label: int(metrics[name]) for label, name in _LIVE_COUNTS.items() if name in metrics}
    if metrics.get("rollout/tool_calls_issued"):
        fields["calls"] = f"{metrics['rollout/tool_calls_issued']:.0f}/{metrics['rollout/tool_calls_executed']:.0f}"
    if calls := _tool_calls([metrics]):
        broken = [f"{tool} {num:.0f}/{num:.0f}" for tool, (num, succeeded) in calls.items() if not succeeded]
        share = 1 - sum(ok for _, ok in calls.values()) / sum(num for num, _ in calls.values())
        if failed := " ".join(broken) or round(share, 3):
            fields["failed"] = failed
    validated = next((name for name in ("valid/accuracy", "valid/reward_mean") if name in metrics), None)
    if validated is not None:
        fields["valid"] = round(metrics[validated], 3)
    return fields


_LIVE_NUMBERS = {
    "reward": "rollout/reward_mean", "accuracy": "rollout/accuracy", "H_tool": "rollout/entropy_after_tool",
    "H_else": "rollout/entropy_elsewhere",
}  # fmt: skip
_LIVE_COUNTS = {
    "length": "rollout/response_length_mean", "branches": "rollout/num_branches", "tok/s": "rollout/tokens_per_s",
}  # fmt: skip
"""Field of the progress bar -> metric."""
