"""`arpo cache`, through the command line."""

import json
from pathlib import Path

import pytest

from arpo.cache import Cache, cache_key
from arpo.cli.main import main


def _run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    assert main(["cache", *map(str, argv)]) == 0
    return capsys.readouterr().out


def test_results_are_imported_counted_exported_and_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results, cache, out = tmp_path / "search_cache.json", tmp_path / "cache.sqlite", tmp_path / "out.jsonl"
    results.write_text(json.dumps({"a": "Page 1: A", "b": "Page 1: B", "c </search>": "Page 1: C"}))
    imported = _run(capsys, "import", cache, results)
    assert "left out: key 'c </search>': holds the protocol's markup </search>" in imported
    assert imported.split()[-8:] == ["imported", "2", "already", "there", "0", "left", "out", "1"]
    assert Cache(cache).get(cache_key("search", "1", {"query": "a"})) == {"content": "Page 1: A", "truncated": False}
    assert [w for line in _run(capsys, "stats", cache).splitlines() if "search" in line for w in line.split()[1:-1:2]] == [
        "search", "2", "0.00", "1", "0",
    ]  # fmt: skip
    _run(capsys, "export", cache, out)
    assert len(out.read_text().splitlines()) == 2
    assert "deleted      2" in _run(capsys, "prune", cache, "--tool", "search")


def test_pruning_asks_what_to_delete_and_of_which_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "prune", str(tmp_path / "c")]) == 2
    assert "--older-than-days, --max-mb, --tool or --recordings" in capsys.readouterr().err
    assert main(["cache", "prune", str(tmp_path / "c"), "--recordings"]) == 2
    assert "there is no such cache" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
