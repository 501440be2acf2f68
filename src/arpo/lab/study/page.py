"""`report.html`: the study as one page that needs no network and no other file."""

import base64
from collections.abc import Sequence
from pathlib import Path

from arpo.lab.study.charts import CHARTS
from arpo.lab.study.measures import MEASURES
from arpo.lab.study.results import StudyResults
from arpo.lab.study.table import lead, notes, tables
from arpo.viewer import page

_SECTIONS: Sequence[tuple[str, str, Sequence[str], Sequence[str]]] = (
    ("accuracy", "Accuracy", ("accuracy", "accuracy_by_calls"), ("accuracy",)),
    ("claims", "Claims", ("claims",), ("claims",)),
    ("cost", "Cost", ("cost",), ("cost",)),
    ("learning", "How they learned", ("policy_entropy", "tool_entropy", "groups"), ("learning", "rates")),
)
"""(id, heading, pictures, tables) of each part; tables against other arms join accuracy, that of the runs is at the end."""


def write_page(path: Path, results: StudyResults, charts: Sequence[Path]) -> Path:
    """Write the page, whole or not at all; return `path`.

    Args:
        path: The HTML file.
        results: The results of the study.
        charts: The files of `draw_charts`, which the page holds inline.
    """
    by_name = tables(results)
    against = [name for name in by_name if name.startswith("against_")]
    pictures = {file.stem: (CHARTS[file.stem][0], _inline(file)) for file in charts}
    sections = [
        {
            "id": part, "title": title, "charts": [pictures[name] for name in chart_names if name in pictures],
            "tables": [
                by_name[name] for name in (*table_names, *(against if part == "accuracy" else ())) if by_name[name].rows
            ],
        }
        for part, title, chart_names, table_names in _SECTIONS
    ]  # fmt: skip
    return page.write_page(
        path,
        "study.html.j2",
        title="Study",
        lead=lead(results),
        arms=[
            (name, summary.arm.about, f"{len(summary.arm.runs)} of {summary.arm.num_planned} runs")
            for name, summary in results.arms.items()
        ],
        sections=[section for section in sections if section["charts"] or section["tables"]],
        runs=by_name["runs"],
        notes=notes(),
        measures=MEASURES,
    )


def _inline(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
