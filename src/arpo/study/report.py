"""What a study found, as files."""

from pathlib import Path

from arpo.study.config import StudyConfig


def report_study(study: StudyConfig, out: Path) -> list[Path]:
    """Write what is done so far; return the files."""
    return []
