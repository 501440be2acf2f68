"""The report's section on what branching did, as data: sentences, tables and the histogram."""

from collections.abc import Mapping, Sequence
from typing import Any

from arpo.tree.branching import Fate
from arpo.tree.branching_statistics import UNSURE
from arpo.viewer.charts import Chart, number
from arpo.viewer.histogram import Layer, histogram
from arpo.viewer.run import RunRecord

_INDENT = "\u2003"
MAX_TOOLS = 8
"""Tools with a row of their own, those with most results first; a model may name any number of tools."""
FATES: Mapping[Fate, tuple[str, str, int]] = {
    "branched": ("branched", "{} branched", 4),
    "declined": ("the rule declined", "at {} the rule declined", 2),
    "no_budget": ("no leaf left", "at {} no leaf was left for a branch", 5),
    "topup": ("on a top-up", "{} lay on top-ups", 3),
    "not_asked": ("rule not asked", "about {} the rule was not asked", 1),
}
"""What became of a tool result -> (its name, a share of all results in words, colour)."""


def branching_sentences(record: RunRecord) -> list[str]:
    """What branching did, in words; empty without a tool result and without a fork."""
    results, forks = record.branching["results"], record.branching["forks"]
    sentences: list[str] = []
    if results["num_results"]:
        sentences.append(_results_sentence(results))
    if forks["num_forks"]:
        sentences.append(_forks_sentence(record.branching["forks_by_tool"], forks))
    return sentences


def branching_table(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the measures over single steps and over all trees; measures that no column has are left out."""
    columns = [*record.branching_by_step, ("all", record.branching)]
    tools = [row["tool"] for row in record.branching["results_by_tool"][:MAX_TOOLS]]
    if not record.branching["results"]["num_results"] and not record.branching["forks"]["num_forks"]:
        return [], []
    rows = zip(*(_column(branching, tools) for _, branching in columns), strict=True)
    filled = [[cells[0][0], *(text for _, text in cells)] for cells in rows if any(text != "–" for _, text in cells)]
    return ["", *(label for label, _ in columns)], filled


def forks_table(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    """Header and rows: forks by turn and by tool, with the rewards below originals and branches; empty without a reward."""
    branching = record.branching
    if branching["forks"]["reward_gain"] is None:
        return [], []
    rows = [(f"turn {row['turn']}", row) for row in branching["forks_by_turn"]]
    rows += [
        (f"after {row['tool']}" if row["tool"] else "in a completion", row) for row in branching["forks_by_tool"][:MAX_TOOLS]
    ]
    header = ["", "forks", "originals", "branches", "difference", "mixed"]
    return header, [
        [label, number(row["num_forks"]), _number(row["original_reward"]), _number(row["branch_reward"]), _gain(row),
         _share(row["mixed_rate"])]
        for label, row in rows
    ]  # fmt: skip


def branching_histogram(record: RunRecord) -> list[Chart]:
    """How much results changed the entropy, by what became of them; empty where none was measured."""
    deltas = record.entropy_deltas
    layers = [Layer(label=name, values=deltas.get(fate, ()), color=color) for fate, (name, _, color) in FATES.items()]
    chart = histogram(
        "Change of entropy by tool results", layers, x_label="ΔH, as the branch rule counts it", y_label="tool results",
        note="Right of zero the policy was less sure after the result than at the start of its path.",
    )  # fmt: skip
    return [chart] if chart is not None else []


def _results_sentence(results: Mapping[str, Any]) -> str:
    num_results = results["num_results"]
    count = "1 tool result was read" if num_results == 1 else f"{num_results:,} tool results were read"
    rise = "" if results["rise_rate"] is None else f"; {results['rise_rate']:.0%} of them raised the entropy (ΔH > 0)"
    fates = results["fates"]
    if fates["branched"] == 0 and fates["declined"] == 0 and fates["no_budget"] == 0:
        return f"{count}{rise}. No path could branch there: the rule does not branch after results, or no leaf was left for it."
    parts = [words.format(f"{fates[fate] / num_results:.0%}") for fate, (_, words, _) in FATES.items() if fates[fate]]
    return f"{count}{rise}. Of all results, {'; '.join(parts)}."


def _forks_sentence(by_tool: Sequence[Mapping[str, Any]], forks: Mapping[str, Any]) -> str:
    inside = sum(row["num_forks"] for row in by_tool if row["tool"] is None)
    place = f", {'all' if inside == forks['num_forks'] else number(inside)} of them inside completions" if inside else ""
    places = "1 place" if forks["num_forks"] == 1 else f"{forks['num_forks']:,} places"
    text = f"Paths forked at {places}{place}."
    if forks["reward_gain"] is not None:
        branches, originals = number(forks["branch_reward"]), number(forks["original_reward"])
        text += f" Branches earned {branches} in the mean, their originals {originals} (difference {_gain(forks)})."
    if forks["mixed_rate"] is not None:
        text += (
            f" A branch draws from the same policy at the same place as its original, so both earn about the same in the mean; "
            f"what a fork teaches lies in the {forks['mixed_rate']:.0%} of forks with right and wrong leaves below."
        )
    return text


def _column(branching: Mapping[str, Any], tools: Sequence[str]) -> list[tuple[str, str]]:
    """(measure, value) of one column."""
    results, forks = branching["results"], branching["forks"]
    num_rises = sum(results["rise_fates"].values())
    after = {row["tool"]: row["entropy_after"] for row in branching["results_by_tool"]}
    return [
        ("Tool results", number(results["num_results"])),
        (f"{_INDENT}raised the entropy (ΔH > 0)", _share(results["rise_rate"])),
        *((f"{_INDENT * 2}{name}", _rise_share(results, fate, num_rises)) for fate, (name, _, _) in FATES.items()),
        ("Entropy at the start of a path, nats", _number(branching["initial_entropy"])),
        (f"{_INDENT}paths that start above {UNSURE} nats", _share(branching["unsure_start_rate"])),
        *((f"Entropy after {tool}, nats", _number(after.get(tool))) for tool in tools),
        ("Forks", number(forks["num_forks"])),
        (f"{_INDENT}mean reward below originals", _number(forks["original_reward"])),
        (f"{_INDENT}mean reward below branches", _number(forks["branch_reward"])),
        (f"{_INDENT}difference, ± 95 %", _gain(forks)),
        (f"{_INDENT}with right and wrong leaves below", _share(forks["mixed_rate"])),
    ]


def _rise_share(results: Mapping[str, Any], fate: Fate, num_rises: int) -> str:
    count = results["rise_fates"][fate]
    return f"{count / num_rises:.0%}" if count else "–"


def _gain(forks: Mapping[str, Any]) -> str:
    gain, error = forks["reward_gain"], forks["reward_gain_error"]
    if gain is None:
        return "–"
    return f"{gain:+.3f}" + ("" if error is None else f" ± {1.96 * error:.3f}")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else number(value)
