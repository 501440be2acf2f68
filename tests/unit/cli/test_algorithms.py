"""`arpo algorithms` shows what every preset is made of, as the presets say."""

import json

import pytest

from arpo.cli.commands.algorithms import describe
from arpo.cli.main import main
from arpo.training.presets import preset_names, read_preset


def test_the_table_has_a_row_for_every_preset(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["algorithms"]) == 0
    shown = capsys.readouterr().out
    for name in preset_names():
        assert f" {name} " in shown
        assert (read_preset(name).paper or "our own").removeprefix("arXiv:") in shown


def test_json_holds_every_resolved_key(capsys: pytest.CaptureFixture[str]):
    assert main(["algorithms", "--json"]) == 0
    rows = {row.pop("name"): row for row in json.loads(capsys.readouterr().out)}
    assert sorted(rows) == preset_names()
    for name, row in rows.items():
        preset = read_preset(name)
        assert (row.pop("paper"), row.pop("about")) == (preset.paper, preset.about)
        assert row == preset.resolve().model_dump(mode="json")


def test_rows_tell_the_presets_apart():
    parts = {describe(read_preset(name))[1:-1] for name in preset_names()}
    assert len(parts) == len(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_row_follows_the_resolved_preset(name: str):
    preset = read_preset(name)
    algorithm = preset.resolve()
    first, branching, advantage, loss, besides, paper = describe(preset)
    assert (first, paper) == (name, (preset.paper or "our own").removeprefix("arXiv:"))
    assert branching.startswith(f"{algorithm.rollout.rule.type}, M={algorithm.rollout.group_size}")
    assert ("N=" in branching) == ("soft" in advantage) == (algorithm.rollout.rule.type != "none")
    assert loss.split()[0].removesuffix(",") == algorithm.loss.type
    assert loss.endswith(algorithm.loss.aggregation)
    assert ("dynamic sampling" in besides) == (algorithm.dynamic_sampling.max_rounds > 0)
