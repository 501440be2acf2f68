"""The figures of `arpo bench rollout` for machines and for people."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arpo.errors import DataError

COLUMNS = {
    "model": "model",
    "trajectories": "trajectories",
    "width": "slots",
    "tool_latency": "tool latency",
    "ours_seconds": "ours, s",
    "limit_seconds": "limit, s",
    "bound_seconds": "bound, s",
    "naive_seconds": "naive, s",
    "trl_seconds": "TRL, s",
    "trl_concurrent_seconds": "TRL concurrent, s",
    "ours_tokens_per_s": "tokens/s",
    "ratio_to_limit": "limit / ours",
    "ratio_to_bound": "bound / ours",
    "speedup_vs_naive": "naive / ours",
    "speedup_vs_trl": "TRL / ours",
    "speedup_vs_trl_concurrent": "TRL concurrent / ours",
}
"""What people want to see of a row, with its heading."""
CURVE_COLUMNS = {
    "model": "model",
    "trajectories": "trajectories",
    "width": "slots",
    "ours_seconds": "ours, s",
    "ours_tokens_per_s": "tokens/s",
}
"""The same of the curve."""
EXPLANATION = """\
Every contender does the same work: a prompt of 32 tokens shared by 16 trajectories, three turns of 32 sampled tokens, an
observation of 96 tokens after each but the last (in the quickstart, too, results are three times as long as turns), random
weights. *Limit*: the same model and token counts in static batches of the best width up to the slots, nothing but forward
passes and draws. *Bound*: the limit or the longest single trajectory, whichever is longer. *Naive*: `generate` per turn and
batch, everything computed again, tools run concurrently, all wait for the slowest. *TRL*: its GRPO tool loop in its own
environment at its best batch size up to the slots, with its serial tools and with tools that run concurrently. The long-
tailed latency is lognormal with a median of 50 ms, a 99th percentile of 2 s and a time limit of 3 s. Ratios above 1 in the
last three columns say how many times longer the other took."""


def write_json(result: dict[str, Any], file: Path) -> None:
    """Write the results."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def read_json(file: Path) -> dict[str, Any]:
    """The results `write_json` wrote.

    Raises:
        DataError: the file does not hold them.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        return {key: result[key] for key in ("command", "machine", "cases", "curve")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: holds no results of `arpo bench rollout` ({error!r}); write them with --json") from error


def tables(result: dict[str, Any]) -> Iterator[list[list[str]]]:
    """The cases and the curve as text, a heading and rows each; without the empty ones."""
    for key, columns in (("cases", COLUMNS), ("curve", CURVE_COLUMNS)):
        if result[key]:
            yield [list(columns.values()), *([_text(row[c]) for c in columns] for row in result[key])]


def markdown(result: dict[str, Any]) -> str:
    """The page `docs/results/rollout_speed.md`."""
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    parts = ["# Rollout speed", f"Measured by `{result['command']}` on: {where}.", EXPLANATION]
    for heading, *rows in tables(result):
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in [heading, ["---"] * len(heading), *rows]))
    return "\n\n".join(parts) + "\n"


def _text(value: float | int | str | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
