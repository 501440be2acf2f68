"""`arpo world make` and `arpo world show` in both styles."""

import json
from pathlib import Path

import pytest

from arpo.cli.main import main

SMALL = ["--num_persons=160", "--num_companies=80", "--num_cities=120", "--num_train=60", "--num_valid=20", "--num_test=20"]


@pytest.mark.parametrize("style", ["plain", "natural"])
def test_a_tiny_policy_is_made_in_the_plain_style_only(style: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "make", "--out", str(tmp_path / "world"), f"--style={style}", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "world" / "policy").exists() == (style == "plain")
    assert ("none: style 'natural' is for a pretrained model" in printed) == (style == "natural")
    assert json.loads((tmp_path / "world" / "world.json").read_text())["config"]["style"] == style
    assert main(["world", "show", str(tmp_path / "world"), "--tasks", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("</answer>") == 3
    assert "num_thought_beginnings" in printed


def test_a_recipe_has_keys_of_the_world_and_the_command_line_overrides_them(tmp_path: Path) -> None:
    out = tmp_path / "world"
    assert main(["world", "make", "--recipe", "smollm2", "--out", str(out), *SMALL, "--kind_weights.mayor", "9"]) == 0
    config = json.loads((out / "world.json").read_text())["config"]
    assert (config["style"], config["num_train"]) == ("natural", 60)
    assert config["kind_weights"]["mayor"] == 9
    assert "birthplaces_total" not in config["kind_weights"]


def test_the_help_says_that_natural_has_no_policy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["world", "make", "--help"])
    assert "none is made with --style=natural" in " ".join(capsys.readouterr().out.split())


def test_a_folder_without_a_world_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "show", str(tmp_path)]) == 2
    assert "holds no world; make one with `arpo world make --out" in " ".join(capsys.readouterr().err.split())
