"""The report of a study, as files: `results.json`, `questions.parquet`, `table.md`, `report.html`, `figures/`."""

from pathlib import Path

from arpo.files.whole import write_json, write_text
from arpo.lab.study.arm_results import read_study
from arpo.lab.study.charts import draw_charts
from arpo.lab.study.config import StudyConfig
from arpo.lab.study.folder import StudyFolder
from arpo.lab.study.page import write_page
from arpo.lab.study.results import make_results, to_json, write_questions
from arpo.lab.study.table import markdown


def report_study(study: StudyConfig, out: Path, into: Path | None = None) -> list[Path]:
    """Write what is done so far; return the files.

    Args:
        study: The study.
        out: Its folder, which may be at work meanwhile.
        into: Where the files go; None: into `out`.

    Raises:
        DataError: a file of a finished part is damaged.
    """
    into = into or out
    into.mkdir(parents=True, exist_ok=True)
    arms = read_study(study, StudyFolder(out))
    results = make_results(study, arms)
    charts = draw_charts(results, into / "figures")
    return [
        write_json(into / "results.json", to_json(results)),
        write_questions(into / "questions.parquet", arms),
        write_text(into / "table.md", markdown(results)),
        write_page(into / "report.html", results, charts),
        *charts,
    ]
