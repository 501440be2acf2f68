"""The graders' figures: every answer is new, half of them are right, and they survive the file."""

import random
from pathlib import Path

import pytest
from rich.console import Console

from arpo.lab.bench import grade
from arpo.lab.bench.grade import GRADE_REPORT, GradeBenchOptions, run
from arpo.lab.bench.report import write_json
from arpo.rewards.graders import GRADERS
from arpo.tracking.console import make_progress


def test_figures_of_a_small_run_survive_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grade, "HOSTILE", {"a difference": "x - 1"})
    result = run(GradeBenchOptions(num_answers=200, num_references=20), make_progress(Console(quiet=True)))
    write_json({"command": "arpo bench grade", **result}, tmp_path / "f.json")
    read = GRADE_REPORT.read_json(tmp_path / "f.json")
    assert [case["graded"] for case in read["cases"]] == [200] * 8 + [2]
    assert all(case["per_second"] > 0 for case in read["cases"])
    assert read["totals"][0] == {"what": "distinct references", "number": 20}
    assert all(row["wrong"] == 0 and row["pairs"] > 0 for row in read["changes"])
    assert [cost["verdict"] for cost in read["hostile"]] == ["different"]


@pytest.mark.parametrize(
    ("make", "grader"),
    [(grade._numbers, "math"), (grade._names, "substring"), (grade._letters, "multiple_choice"), (grade._formulas, "math")],
)
def test_half_of_the_answers_are_right(make, grader):
    rng = random.Random(1)
    pairs = [make(rng, i) for i in range(40)]
    scores = [GRADERS[grader].grade_answer(answer, [reference]).score for answer, reference in pairs]
    assert scores == [1.0, 0.0] * 20
