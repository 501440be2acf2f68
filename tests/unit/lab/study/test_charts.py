"""Pictures and the page of a small study."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from arpo.lab.study.arm_results import read_study
from arpo.lab.study.charts import CHARTS, draw_charts
from arpo.lab.study.folder import StudyFolder
from arpo.lab.study.page import write_page
from arpo.lab.study.results import StudyResults, make_results

from .made_up import study_of, write_test, write_training


@pytest.fixture
def results(tmp_path: Path) -> StudyResults:
    """Two trained and tested arms; nothing is timed."""
    study, folder = study_of(), StudyFolder(tmp_path / "study")
    write_test(folder.cold_test(0), [1, 0, 0, 0])
    for arm, calls in (("arpo", [80, 80]), ("grpo", [128, 144, 100])):
        write_training(study, folder, arm, (0, 0), calls)
        write_test(folder.test(arm, (0, 0), 2), [1, 1, 0, 0], [[1, 1], [1, 0], [0, 0], [0, 0]])
    return make_results(study, read_study(study, folder))


def test_every_picture_is_drawn_and_none_is_blank(results: StudyResults, tmp_path: Path) -> None:
    drawn = draw_charts(results, tmp_path / "figures")
    assert [path.stem for path in drawn] == list(CHARTS)
    for path in drawn:
        with Image.open(path) as picture:
            assert picture.width >= 600
            colors = picture.convert("RGB").getcolors(1 << 24)
        assert colors is not None
        assert len(colors) > 50


def test_what_is_not_known_is_not_drawn(tmp_path: Path) -> None:
    study = study_of()
    nothing = make_results(study, read_study(study, StudyFolder(tmp_path)))
    assert draw_charts(nothing, tmp_path / "figures") == []


def test_the_page_holds_pictures_tables_and_escaped_words(results: StudyResults, tmp_path: Path) -> None:
    grpo = results.arms["grpo"]
    grpo = replace(grpo, arm=replace(grpo.arm, about="<script>alert(1)</script>"))
    results = replace(results, arms={**results.arms, "grpo": grpo})
    pictures = draw_charts(results, tmp_path / "figures")
    page = write_page(tmp_path / "report.html", results, pictures).read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert 'src="http' not in page
    assert "0.500 [" in page
    assert "Accuracy minus that of grpo" in page
    assert "of arpo and nobody has accuracy" in page  # a claim left out says why


def test_a_page_of_nothing_says_so(tmp_path: Path) -> None:
    study = study_of()
    nothing = make_results(study, read_study(study, StudyFolder(tmp_path)))
    page = write_page(tmp_path / "report.html", nothing, []).read_text()
    assert "0 of 7 runs are trained" in page
