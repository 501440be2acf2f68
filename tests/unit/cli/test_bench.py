from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arpo.cli.commands.bench import show_results
from arpo.lab.bench.grade import GRADE_REPORT, GradeBenchOptions, run
from arpo.tracking.progress import SilentProgress


def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path):
    file = tmp_path / "bench" / "grade.json"
    measured = run(GradeBenchOptions(num_answers=100, has_hostile=False), SilentProgress())

    def results() -> Iterator[dict[str, Any]]:
        yield measured | {"cases": measured["cases"][:1]}
        yield measured
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show_results(Namespace(json=file, markdown=None), GRADE_REPORT, results())
    assert len(GRADE_REPORT.read_json(file)["cases"]) == len(measured["cases"])
