"""The figures survive the file, and people see them."""

from pathlib import Path

import pytest

from arpo.errors import ConfigError, DataError
from arpo.lab.bench.report import write_json
from arpo.lab.bench.rollout import make_cases, make_decoding_cases
from arpo.lab.bench.rollout_report import ROLLOUT_REPORT
from arpo.lab.bench.training_report import TRAINING_REPORT

RESULT = {
    "command": "arpo bench rollout",
    "machine": {"processor": "a fast one", "cores": 2},
    "cases": [
        dict.fromkeys(ROLLOUT_REPORT.columns["cases"], 1.2345)
        | {"model": "tiny", "trajectories": 256, "trl_seconds": None, "width": 64}
    ],
    "curve": [],
    "decoding": [],
}


def test_file_and_page(tmp_path: Path) -> None:
    write_json(RESULT, tmp_path / "f.json")
    page = ROLLOUT_REPORT.markdown(ROLLOUT_REPORT.read_json(tmp_path / "f.json"))
    assert "`arpo bench rollout` on: processor a fast one, cores 2." in page
    assert "| tiny | 256 | 64 | 1.23 |" in page
    assert page.count("\n| ---") == 1  # no table for the curve that was not measured


def test_another_file_is_refused(tmp_path: Path) -> None:
    for text in ("[]", "{}", "no json"):
        (tmp_path / "f.json").write_text(text)
        with pytest.raises(DataError, match=r"f\.json: holds no results of `arpo bench rollout`"):
            ROLLOUT_REPORT.read_json(tmp_path / "f.json")


def test_results_of_the_other_program_are_refused(tmp_path: Path) -> None:
    write_json(RESULT, tmp_path / "f.json")
    with pytest.raises(DataError, match="holds no results of `arpo bench train`"):
        TRAINING_REPORT.read_json(tmp_path / "f.json")


def test_cases() -> None:
    cases = make_cases(["tiny"], [(64, 16), (256, 64)], ["0", "long_tailed"])
    assert [(c.trajectories, c.width, c.tool_latency) for c in cases] == [
        (64, 16, "0"), (64, 16, "long_tailed"), (256, 64, "0"), (256, 64, "long_tailed"),
    ]  # fmt: skip
    for size in ((100, 16), (64, 0), (0, 16), (64, 20)):
        with pytest.raises(ConfigError, match="multiple of 16"):
            make_cases(["tiny"], [size], ["0"])


def test_batch_sizes() -> None:
    assert [(c.model, c.trajectories) for c in make_decoding_cases(["a", "b"], [1, 16, 48])] == [
        ("a", 1), ("a", 16), ("a", 48), ("b", 1), ("b", 16), ("b", 48),
    ]  # fmt: skip
    for batch in (0, 17, 40):
        with pytest.raises(ConfigError, match=f"--decoding {batch}: must be 1 to 16, or a multiple of 16"):
            make_decoding_cases(["a"], [batch])
