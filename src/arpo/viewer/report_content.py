"""The content of a run's report as data: headline numbers, tables, and charts with their metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arpo.tracking import series
from arpo.tree.entropy import EntropyCurve, EntropyProfile
from arpo.viewer.charts import Chart, Reference, Series, Unit, line_chart, moving_average, number
from arpo.viewer.run import RunRecord

MIN_SHARE = 0.05
"""Entropy is drawn up to the distance that this share of the turns reach."""
FIRST_TOKENS = 5
"""Tokens after a result that the sentence beside the chart is about."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Headline:
    """One large number; with before, after and a ceiling in [0, 1] also a small scale."""

    label: str
    before: str = ""
    value: str
    note: str = ""
    scale: tuple[float, float, float | None] | None = None


@dataclass(slots=True, frozen=True)
class MetricChart:
    """A chart drawn from `metrics.jsonl`."""

    title: str
    metrics: Mapping[str, str]
    """Metric name -> label in the legend."""
    y_label: str
    unit: Unit = ""
    from_zero: bool = False
    note: str = ""


SIGNAL_CHARTS = (
    MetricChart(
        "Rewards", {"rollout/reward_max": "largest", "rollout/reward_mean": "mean", "rollout/reward_min": "least"}, "reward",
    ),
    MetricChart(
        "Groups of equal rewards",
        {"rollout/reward_zero_std_rate": "no reward differs", "rollout/mixed_group_rate": "right and wrong answers"},
        "share of groups", "%", from_zero=True, note="A group whose rewards are all equal teaches nothing.",
    ),
    MetricChart(
        "Format and truncation",
        {"rollout/format_valid_rate": "well-formed", "rollout/truncated_rate": "cut by a limit"},
        "share of trajectories", "%", from_zero=True,
    ),
    MetricChart(
        "Response length",
        {
            "rollout/response_length_max": "longest", "rollout/response_length_mean": "mean",
            "rollout/response_length_min": "shortest",
        },
        "sampled tokens", from_zero=True,
    ),
    MetricChart(
        "Turns", {"rollout/num_turns_max": "most", "rollout/num_turns_mean": "mean"}, "turns per trajectory", from_zero=True,
    ),
)  # fmt: skip
COST_CHARTS = (
    MetricChart(
        "Tool calls per step",
        {"rollout/tool_calls_issued": "issued", "rollout/tool_calls_executed": "executed"},
        "calls", from_zero=True, note="Calls the policy made, and those that ran because the cache held no result.",
    ),
    MetricChart(
        "Tokens per step",
        {"rollout/tokens_trajectory": "over all trajectories", "rollout/tokens_unique": "stored in the trees"},
        "tokens", from_zero=True, note="The gap is what sharing prefixes saves: shared tokens are sampled and trained once.",
    ),
    MetricChart(
        "Tokens per second", {"rollout/tokens_per_s": "sampled", "train/tokens_per_s": "trained"}, "tokens/s", from_zero=True,
    ),
    MetricChart(
        "Peak memory", {"memory/process_peak_mb": "process", "memory/device_peak_mb": "GPU"}, "MiB", from_zero=True,
    ),
)  # fmt: skip
BRANCH_CHARTS = (
    MetricChart(
        "Entropy after tool results and elsewhere",
        {"rollout/entropy_after_tool": "after a tool result", "rollout/entropy_elsewhere": "elsewhere"},
        "entropy", "nats", from_zero=True,
    ),
    MetricChart(
        "Results that raised the entropy, and forks that teach",
        {"rollout/entropy_rise_rate": "results with ΔH > 0", "rollout/mixed_fork_rate": "forks with right and wrong leaves"},
        "share", "%", from_zero=True,
    ),
    MetricChart(
        "Where trajectories began",
        {"rollout/num_initial": "at the prompt", "rollout/num_branches": "as a branch", "rollout/num_topups": "topped up"},
        "trajectories per step", from_zero=True,
    ),
)  # fmt: skip
HEALTH_CHARTS = (
    MetricChart("Loss", {"train/loss": "loss"}, "loss"),
    MetricChart("Gradient norm", {"train/grad_norm": "before clipping"}, "norm", from_zero=True),
    MetricChart("Policy entropy", {"train/entropy": "sampled tokens"}, "entropy", "nats", from_zero=True),
    MetricChart(
        "Clipped tokens", {"train/clip_fraction_low": "lower bound", "train/clip_fraction_high": "upper bound"}, "share", "%",
        from_zero=True,
    ),
    MetricChart("Engine against trainer", {"train/mismatch_kl": "KL"}, "KL", "nats", from_zero=True),
)  # fmt: skip
SFT_CHARTS = (
    MetricChart("Cold start: loss", {"sft/loss": "training", "valid/loss": "held out"}, "loss", "nats", from_zero=True),
    MetricChart(
        "Cold start: token accuracy",
        {"sft/token_accuracy": "training", "valid/token_accuracy": "held out"},
        "share",
        "%",
    ),
)


def signal_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """What the rewards rest on: their spread, format, length; the components by name, faults by count, four to a chart."""
    charts = metric_charts(rows, SIGNAL_CHARTS)
    families = (("Reward components", "reward/", "mean"), ("Format faults", "fault/", "trajectories per step"))
    for title, prefix, y_label in families:
        names = sorted({name for row in rows for name in row if name.startswith(prefix)})
        for first in range(0, len(names), 4):
            labels = {name: name.removeprefix(prefix) for name in names[first : first + 4]}
            is_count = prefix == "fault/"  # a step names the faults that it has
            counted = [dict.fromkeys(labels, 0) | dict(row) for row in rows] if is_count else rows
            charts += metric_charts(counted, [MetricChart(title, labels, y_label, from_zero=is_count)])
    return charts


def no_signal_text(summary: Mapping[str, Any]) -> tuple[list[str], str]:
    """Sentences on a run that learned nothing, and its sample; empty for a run that learned."""
    found = summary.get("no_signal")
    if not found:
        return [], ""
    total = found["num_trajectories"]
    rewards = (
        f"Every trajectory has reward {found['reward_min']:.4g}."
        if found["reward_min"] == found["reward_max"]
        else f"Rewards run from {found['reward_min']:.4g} to {found['reward_max']:.4g} and are equal within each group."
    )
    faults = ", ".join(f"{name} {count:,}" for name, count in found["faults"].items()) or "none"
    failed = [f"{tool} {count:,} of {found['tool_calls'][tool]:,}" for tool, count in found["tool_errors"].items() if count]
    sentences = [
        f"No group of steps {found['first_step']} to {found['last_step']} has rewards that differ, so every advantage is 0. "
        f"{rewards}",
        f"Format faults of {total:,} trajectories: {faults}. Cut by a token or turn limit: {found['num_truncated']:,}. "
        f"Failed tool calls: {', '.join(failed) or 'none'}.",
        *(f"Try {advice}." for advice in found["advice"]),
    ]
    return sentences, f"{found['sample_of']}\n\n{found['sample']}" if found["sample"] else ""


def metric_charts(rows: Sequence[Mapping[str, Any]], charts: Sequence[MetricChart]) -> list[Chart]:
    """The charts that have at least one value."""
    return _drawn(_metric_chart(rows, chart) for chart in charts)


def learning_charts(record: RunRecord) -> list[Chart]:
    """Reward and accuracy over training; accuracy with validation and the lines of the cold start and the demonstrator."""
    references = [
        Reference(label, record.summary[key])
        for label, key in (("cold start", "accuracy_before"), ("demonstrator", "demonstrator_accuracy"))
        if record.summary.get(key) is not None
    ]
    accuracy = _smoothed(record.rows, "rollout/accuracy", "training, sampled", 1)
    validation = Series(label="validation, greedy", points=series(record.rows, "valid/accuracy"), color=2, style="dots")
    return _drawn([
        line_chart(
            "Accuracy", [*accuracy, validation], x_label="step", y_label="right answers", unit="%", references=references
        ),
        line_chart(
            "Training reward", _smoothed(record.rows, "rollout/reward_mean", "mean reward", 1), x_label="step", y_label="reward"
        ),
    ])  # fmt: skip


def entropy_charts(profile: EntropyProfile) -> list[Chart]:
    """Entropy after tool results, the observation that ARPO rests on; and the same by tool."""
    if not profile.after_tool.mean:
        return []
    before = entropy_series("no tool result yet", profile.before_tools, 1)
    after = entropy_series("after a tool result", profile.after_tool, 2)
    tools = [entropy_series(f"after {name}", curve, 3 + i % 2) for i, (name, curve) in enumerate(profile.by_tool.items())]
    drawn = [("All tool results", [before, after]), ("By tool", [before, *tools])]
    x, y = "distance in sampled tokens", "mean entropy (nats)"
    return _drawn(line_chart(title, lines, x_label=x, y_label=y, unit="nats", from_zero=True) for title, lines in drawn)


def entropy_series(label: str, curve: EntropyCurve, color: int) -> Series:
    """One curve with its 95 % band, as far as it is common."""
    curve = curve.common(MIN_SHARE)
    return Series(
        label=label,
        points=list(enumerate(curve.mean)),
        color=color,
        half_width=[None if e is None else 1.96 * e for e in curve.standard_error],
        count=curve.count,
        style="dots",
    )


def entropy_sentence(profile: EntropyProfile) -> str:
    """What the entropy chart shows, in words."""
    if not (profile.after_tool.mean and profile.before_tools.mean):
        return ""
    after, before = (curve.mean_of_first(FIRST_TOKENS) for curve in (profile.after_tool, profile.before_tools))
    relation = "higher than" if after > before else "lower than" if after < before else "equal to"
    return (
        f"The first {FIRST_TOKENS} tokens after a tool result have a mean entropy of {after:.3f} nats, {relation} the "
        f"{before:.3f} nats of the first {FIRST_TOKENS} after the prompt."
    )


def headlines(record: RunRecord) -> list[Headline]:
    """The headline numbers; without a summary, those that the metrics give."""
    summary = record.summary
    numbers = [
        _share_change("Test accuracy", summary, "accuracy", summary.get("demonstrator_accuracy")),
        _share_change(f"pass@{summary.get('k', 'k')}", summary, "pass_at_k"),
        _change_in_steps("Validation accuracy", record, "valid/accuracy", "%") if "accuracy_after" not in summary else None,
        _change_in_steps("Training reward", record, "rollout/reward_mean") if "accuracy_after" not in summary else None,
        _plain_change("Tool calls per task", summary, "tool_calls_per_task"),
        _saving(record),
        _duration(record),
    ]
    return [n for n in numbers if n]


def before_after_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(measure, before, after, change, demonstrator) of every measure that has both values in the summary."""
    rows: list[tuple[str, str, str, str, str]] = []
    for label, key, unit in _MEASURES:
        before, after = summary.get(f"{key}_before"), summary.get(f"{key}_after")
        if before is None or after is None:
            continue
        change = f"{100 * (after - before):+.1f} points" if unit == "%" else f"{after - before:+.2f}"
        ceiling = summary.get("demonstrator_accuracy") if key == "accuracy" else None
        name = label.format(k=summary.get("k", "k"))
        rows.append((name, number(before, unit), number(after, unit), change, "" if ceiling is None else number(ceiling, unit)))
    return rows


def evaluation_table(evaluations: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the evaluations; empty columns are left out."""
    columns = [column for column in _EVALUATION_COLUMNS if any(column[1] in e for e in evaluations)]
    rows = [
        [str(e.get("name", ""))] + [number(e[key], unit) if e.get(key) is not None else "–" for _, key, unit in columns]
        for e in evaluations
    ]
    return ["Evaluation", *(label for label, _, _ in columns)], rows


def branching_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(measure, value) of all rollouts."""
    return [(label, number(summary[key], unit)) for label, key, unit in _ROLLOUT_FACTS if summary.get(key) is not None]


def phase_bars(record: RunRecord) -> list[tuple[str, float, str]]:
    """(phase, share of the total in percent, text), longest first; from the summary, else from the steps' timings."""
    seconds = dict(record.summary.get("seconds") or _seconds_of_steps(record.rows))
    total = seconds.pop("total", sum(seconds.values()))
    rest = total - sum(seconds.values())
    if rest > 0.005 * total:
        seconds["other"] = rest
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return [(name.replace("_", " "), 100 * s / total, f"{_time(s)} · {100 * s / total:.0f}%") for name, s in ordered if s > 0]


_MEASURES: tuple[tuple[str, str, Unit], ...] = (
    ("Accuracy", "accuracy", "%"),
    ("pass@{k}", "pass_at_k", "%"),
    ("Token F1", "f1", "%"),
    ("Well-formed trajectories", "format_valid_rate", "%"),
    ("Tool calls per task", "tool_calls_per_task", ""),
)
_EVALUATION_COLUMNS: tuple[tuple[str, str, Unit], ...] = (
    ("Accuracy", "accuracy", "%"), ("Exact match", "exact_match", "%"), ("Token F1", "f1", "%"), ("pass@k", "pass_at_k", "%"),
    ("k", "k", ""), ("Well-formed", "format_valid_rate", "%"), ("Tool calls per task", "tool_calls_per_task", ""),
    ("Tasks", "num_tasks", ""),
)  # fmt: skip
_ROLLOUT_FACTS: tuple[tuple[str, str, Unit], ...] = (
    ("Entropy after tool results", "entropy_after_tool", "nats"), ("Entropy elsewhere", "entropy_elsewhere", "nats"),
    ("Branches per opportunity", "branch_rate", ""), ("Trajectories that began as a branch", "branch_share", "%"),
    ("Trajectories per task", "leaves_per_group", ""),
    ("Tokens sampled", "tokens_sampled", ""), ("Tokens trained, each shared one once", "tokens_trained_unique", ""),
    ("Tokens trained leaf by leaf would be", "tokens_trained_total", ""), ("Peak memory, MB", "peak_memory_mb", ""),
)  # fmt: skip
_PHASES = ("rollout", "update", "sync", "validate", "checkpoint")


def _drawn(charts: Iterable[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _metric_chart(rows: Sequence[Mapping[str, Any]], chart: MetricChart) -> Chart | None:
    lines = [
        Series(label=label, points=series(rows, name), color=i)
        for i, (name, label) in enumerate(chart.metrics.items(), start=1)
    ]  # fmt: skip
    return line_chart(
        chart.title, lines, x_label="step", y_label=chart.y_label, unit=chart.unit, from_zero=chart.from_zero, note=chart.note
    )


def _smoothed(rows: Sequence[Mapping[str, Any]], metric: str, label: str, color: int) -> list[Series]:
    """The values; where they are many, faint behind their moving average."""
    points = series(rows, metric)
    window = len(points) // 20 * 2 + 1
    if window < 3:
        return [Series(label=label, points=points, color=color)]
    average = Series(label=f"{label} (mean of {window} steps)", points=moving_average(points, window), color=color)
    return [Series(label=label, points=points, color=color, style="faint"), average]


def _share_change(label: str, summary: Mapping[str, Any], key: str, ceiling: float | None = None) -> Headline | None:
    before, after = summary.get(f"{key}_before"), summary.get(f"{key}_after")
    if after is None:
        return None
    notes = [] if before is None else [f"{100 * (after - before):+.1f} points"]
    notes += [] if ceiling is None else [f"demonstrator {number(ceiling, '%')}"]
    return Headline(
        label=label,
        before="" if before is None else number(before, "%"),
        value=number(after, "%"),
        note=", ".join(notes),
        scale=None if before is None else (before, after, ceiling),
    )


def _plain_change(label: str, summary: Mapping[str, Any], key: str) -> Headline | None:
    before, after = summary.get(f"{key}_before"), summary.get(f"{key}_after")
    if after is None:
        return None
    return Headline(label=label, before="" if before is None else f"{before:.2f}", value=f"{after:.2f}")


def _change_in_steps(label: str, record: RunRecord, metric: str, unit: Unit = "") -> Headline | None:
    points = series(record.rows, metric)
    if not points:
        return None
    (first, before), (last, after) = points[0], points[-1]
    is_one = len(points) == 1
    note = f"step {last}" if is_one else f"steps {first} to {last}"
    return Headline(label=label, before="" if is_one else number(before, unit), value=number(after, unit), note=note)


def _saving(record: RunRecord) -> Headline | None:
    unique = record.summary.get("tokens_trained_unique") or sum(y for _, y in series(record.rows, "train/tokens_unique"))
    total = record.summary.get("tokens_trained_total") or sum(y for _, y in series(record.rows, "train/tokens_total"))
    if not unique or not total:
        return None
    note = f"{number(unique)} tokens computed for {number(total)} in trajectories"
    return Headline(label="Training shared", value=f"{total / unique:.2f}×", note=note)


def _duration(record: RunRecord) -> Headline | None:
    seconds = record.summary.get("seconds") or _seconds_of_steps(record.rows)
    if not seconds:
        return None
    peak = record.summary.get("peak_memory_mb")
    note = "" if peak is None else f"peak memory {number(peak)} MB"
    return Headline(label="Wall time", value=_time(seconds.get("total", sum(seconds.values()))), note=note)


def _seconds_of_steps(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    sums = {phase: sum(y for _, y in series(rows, f"time/{phase}_s")) for phase in (*_PHASES, "step")}
    seconds = {phase: value for phase, value in sums.items() if value}
    return {("total" if phase == "step" else phase): value for phase, value in seconds.items()}


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
