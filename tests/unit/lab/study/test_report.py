"""A small study from its files to results, records and tables; parts of it are missing, as while it runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from arpo.errors import DataError
from arpo.lab.study.arm_results import read_study
from arpo.lab.study.folder import StudyFolder
from arpo.lab.study.report import report_study
from arpo.lab.study.results import make_results
from arpo.lab.study.table import markdown

from .made_up import study_of, write_test, write_training


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """arpo: both runs. grpo: run 0-0 alone. more: tested. late: nothing."""
    study, folder = study_of(), StudyFolder(tmp_path_factory.mktemp("study"))
    write_test(folder.cold_test(0), [1, 0, 0, 0], [[1, 0], [0, 0], [0, 0], [0, 0]])
    write_training(study, folder, "arpo", (0, 0), [80, 80])
    write_training(study, folder, "arpo", (1, 0), [96, 80])
    write_training(study, folder, "grpo", (0, 0), [128, 144, 100])
    write_test(folder.test("arpo", (0, 0), 2), [1, 1, 1, 0], [[1, 1], [1, 0], [0, 0], [0, 0]])
    write_test(folder.test("arpo", (1, 0), 2), [0, 0, 1, 0], [[1, 1], [1, 1], [1, 0], [0, 0]])
    write_test(folder.test("grpo", (0, 0), 2), [1, 0, 1, 0], [[1, 1], [0, 0], [0, 0], [0, 0]])
    write_test(folder.test("grpo", (0, 0), 1), [1, 0, 0, 0])
    more = folder.training("more", (0, 0), None)
    more.mkdir(parents=True)
    (more / "summary.json").write_text("{}")
    write_test(folder.test("more", (0, 0), 0), [0, 0, 0, 0], [[0, 0]] * 4)
    return folder


@pytest.fixture(scope="module")
def report(study_folder: StudyFolder) -> Path:
    """The folder of its report."""
    report_study(study_of(), study_folder.path, study_folder.path / "report")
    return study_folder.path / "report"


@pytest.fixture(scope="module")
def results(report: Path) -> dict[str, Any]:
    return json.loads((report / "results.json").read_text())


def test_tests_at_every_point(results: dict[str, Any]) -> None:
    """arpo spent 160 calls and 1,600 tokens in run 0-0; grpo had 128 after step 1 and 272 after step 2."""
    arpo, grpo = results["arms"]["arpo"], results["arms"]["grpo"]
    assert arpo["tests"]["steps"]["accuracy"]["value"] == pytest.approx(0.5)  # 3/4 and 1/4
    assert arpo["tests"]["steps"]["accuracy"]["runs"] == {"0-0": 0.75, "1-0": 0.25}
    assert arpo["tests"]["steps"]["sampled_accuracy"]["value"] == pytest.approx((3 / 8 + 5 / 8) / 2)
    assert arpo["tests"]["steps"]["pass_at_k"]["value"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert grpo["tests"]["steps"]["accuracy"]["value"] == 0.5
    assert grpo["tests"]["tool_calls"]["accuracy"]["value"] == 0.25
    assert (
        grpo["runs"]["0-0"]["tests"]["tool_calls"] | {"spent": 128, "budget": 160, "step": 1}
        == (grpo["runs"]["0-0"]["tests"]["tool_calls"])
    )
    assert "time" not in grpo["tests"]  # nothing was timed
    assert results["arms"]["more"]["tests"].keys() == {"time"}
    assert results["arms"]["cold start"]["tests"]["start"]["accuracy"]["value"] == 0.25


def test_differences_are_of_the_runs_both_have(results: dict[str, Any]) -> None:
    """Run 0-0 alone: 0.75 - 0.5 at equal steps, 0.75 - 0.25 at equal tool calls."""
    against = results["arms"]["arpo"]["against"]["grpo"]
    assert against["steps"]["accuracy"]["runs"] == {"0-0": 0.25}
    assert against["tool_calls"]["accuracy"]["value"] == pytest.approx(0.5)


def test_training_over_the_steps_compared(results: dict[str, Any]) -> None:
    """grpo: (128 + 144) calls over two of its three steps of 8 tasks and 16 trajectories; entropies 0.1 and 0.2."""
    training = {name: found["value"] for name, found in results["arms"]["grpo"]["training"].items()}
    assert training["tool_calls_per_task"] == pytest.approx(272 / 16)
    assert training["tool_calls_executed_per_task"] == pytest.approx(136 / 16)
    assert training["tool_calls_per_trajectory"] == pytest.approx(272 / 256)
    assert training["tokens_sampled"] == pytest.approx(1360)
    assert training["branch_rate"] == pytest.approx(0.25)
    assert training["num_topups"] == pytest.approx(1)
    assert training["entropy_mean"] == training["entropy_start"] == training["entropy_end"] == pytest.approx(0.15)
    assert training["entropy_spread"] == pytest.approx(0.1 / 2**0.5)
    assert training["clip_fraction_low"] == pytest.approx(0.01)
    assert training["distinct_answers"] == pytest.approx(4.5)  # 4 and 5
    assert training["entropy_at_start"] == pytest.approx(0.2)  # 0.1 and 0.3
    assert training["entropy_after_search"] == pytest.approx(0.6)
    assert training["entropy_after_python"] == pytest.approx(0.2)


def test_claims(results: dict[str, Any]) -> None:
    """Calls in run 0-0: 160 / 272 = 0.588."""
    calls, accuracy, absent = results["claims"]
    assert calls["estimate"]["value"] == pytest.approx(160 / 272)
    assert calls["verdict"] == accuracy["verdict"] == "open"  # they share one run, which decides nothing
    assert absent["left_out"]


def test_every_answer_is_kept(report: Path) -> None:
    rows = pq.read_table(report / "questions.parquet").to_pylist()
    assert len(rows) == 4 * (1 + 2 * 3 + 3 + 1)  # cold start, arpo and grpo at three points, more
    row = next(r for r in rows if r["arm"] == "grpo" and r["point"] == "tool_calls" and r["task_id"] == "q0")
    assert row == {
        "arm": "grpo", "world": 0, "seed": 0, "point": "tool_calls", "step": 1, "task_id": "q0", "right": True,
        "num_samples": 0, "num_right": 0,
    }  # fmt: skip
    assert {r["seed"] for r in rows if r["arm"] == "cold start"} == {None}


def test_the_table_says_what_is_missing(report: Path) -> None:
    table = (report / "table.md").read_text()
    assert "| late | 0/2 | - | - | - | - | - | - |" in table
    assert "| grpo | 1/2 | 0.500 [" in table
    assert "4 of 7 runs are trained" in table
    assert "of arpo and nobody has accuracy" in table


def test_a_run_that_ended_before_its_budget_is_marked(study_folder: StudyFolder) -> None:
    """With grpo as budget arm, 272 calls in run 0-0, arpo's 160 after its last step are short of it."""
    study = study_of(budget_arm="grpo")
    results = make_results(study, read_study(study, study_folder))
    arpo = results.arms["arpo"]
    assert arpo.short_runs("tool_calls") == ["0-0"]
    assert "1-0" not in arpo.tests["tool_calls"]["accuracy"].runs  # grpo has no such run yet
    lines = markdown(results).splitlines()
    assert "] *" in next(line for line in lines if line.startswith("| arpo | 2/2"))


def test_an_empty_folder_is_reported_as_such(tmp_path: Path) -> None:
    report_study(study_of(), tmp_path / "study")
    found = json.loads((tmp_path / "study" / "results.json").read_text())
    assert {name: arm["runs_trained"] for name, arm in found["arms"].items()} == dict.fromkeys(found["arms"], 0)
    assert all(claim["left_out"] for claim in found["claims"])


def test_other_questions_in_one_world_are_an_error(study_folder: StudyFolder, tmp_path: Path) -> None:
    folder = StudyFolder(Path(shutil.copytree(study_folder.path, tmp_path / "copy")))
    shutil.rmtree(folder.test("grpo", (0, 0), 2))
    write_test(folder.test("grpo", (0, 0), 2), [1, 1])
    with pytest.raises(DataError, match="num_test changed"):
        read_study(study_of(), folder)
