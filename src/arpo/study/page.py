"""`report.html`: the study as one page that needs no network and no other file."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arpo.study.charts import TITLES
from arpo.study.table import lead, notes, tables
from arpo.viewer import page

_SECTIONS: Sequence[tuple[str, str, Sequence[str], Sequence[str]]] = (
    ("accuracy", "Accuracy", ("accuracy", "accuracy_by_calls"), ("accuracy",)),
    ("claims", "Claims", ("claims",), ("claims",)),
    ("cost", "Cost", ("cost",), ("cost",)),
    ("learning", "How they learned", ("policy_entropy", "tool_entropy", "groups"), ("learning", "rates")),
)
"""(id, heading, pictures, tables) of each part; tables against other arms join accuracy, that of the runs is at the end."""


def write_page(path: Path, results: Mapping[str, Any], figures: Sequence[Path]) -> Path:
    """Write the page, whole or not at all; return `path`.

    Args:
        path: The HTML file.
        results: The content of `results.json`.
        figures: The pictures of `draw_charts`, which the page holds inline.
    """
    found = tables(results)
    against = [name for name in found if name.startswith("against_")]
    pictures = {file.stem: (TITLES[file.stem], _inline(file)) for file in figures}
    sections = [
        {
            "id": part, "title": title, "figures": [pictures[name] for name in names if name in pictures],
            "tables": [found[name] for name in (*own, *(against if part == "accuracy" else ())) if found[name].rows],
        }
        for part, title, names, own in _SECTIONS
    ]  # fmt: skip
    return page.write_page(
        path,
        "study.html.j2",
        title="Study",
        lead=lead(results),
        arms=[
            (name, arm["about"], f"{arm['runs_trained']} of {arm['runs_planned']} runs")
            for name, arm in results["arms"].items()
        ],
        sections=[section for section in sections if section["figures"] or section["tables"]],
        runs=found["runs"],
        notes=notes(results),
        measures=results["measures"],
    )


def _inline(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
