"""`arpo benchmarks` shows the table as it is, and checks files."""

import json
from pathlib import Path

import pytest

from arpo.cli.main import main
from arpo.data.benchmarks import BENCHMARKS


def test_the_table_fits_a_terminal_and_names_every_benchmark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["benchmarks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [b for b in BENCHMARKS if any(line.startswith(f"{b} ") for line in (raw.strip() for raw in lines))] == [*BENCHMARKS]


def test_json_holds_every_column(capsys: pytest.CaptureFixture[str]):
    assert main(["benchmarks", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [*BENCHMARKS]
    assert (rows["gaia"]["size"], rows["gaia"]["hub_size"], rows["gaia"]["group_key"]) == (103, 165, "level")
    assert rows["gaia"]["forms"][0] == {
        "name": "reference", "fields": {"question": "text", "answer": "number", "level": "number"}
    }  # fmt: skip


def test_a_file_is_checked_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    levels = [1, 2, 2]
    rows = [{"Question": "q", "Final answer": "1", "Level": level, "file_name": ""} for level in levels]
    rows.append({"Question": "q", "Final answer": "1", "Level": 3, "file_name": "a.pdf"})
    path = tmp_path / "gaia.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["benchmarks", "gaia", "--file", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["questions"], found["groups"], len(found["left_out"])) == (3, {"1": 1, "2": 2}, 1)
    assert main(["benchmarks", "gaia", "--file", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "3 questions of GAIA; the papers' set has 103" in shown
    assert "level 2: 2" in shown
    assert "left out, 1: needs the file 'a.pdf'" in shown


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["benchmarks", "--file", "x.jsonl"]) == 2
    assert "name its benchmark" in capsys.readouterr().err
    assert main(["benchmarks", "gai"]) == 2
    assert "did you mean 'gaia'" in capsys.readouterr().err
