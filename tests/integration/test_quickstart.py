"""The whole path through the real commands, with the quickstart's recipe cut down to seconds."""

import json
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest

import arpo.recipes
from arpo.cli.main import main

CUTS = {
    "demos": [(r"num_tasks = \d+", "num_tasks = 24")],
    "sft": [(r"num_epochs = \d+", "num_epochs = 1")],
    "rl": [
        (r"num_steps = \d+", "num_steps = 2"),
        (r"tasks_per_step = \d+", "tasks_per_step = 2"),
        (r"num_tasks = \d+", "num_tasks = 4"),
    ],
    "eval": [(r"num_tasks = \d+", "num_tasks = 6"), (r"num_samples = \d+", "num_samples = 2")],
}
FIGURES = (
    "accuracy_before accuracy_after demonstrator_accuracy pass_at_k_before pass_at_k_after k tool_calls_per_task_before "
    "tool_calls_per_task_after entropy_after_tool entropy_elsewhere branch_rate branch_share leaves_per_group tokens_sampled "
    "tokens_trained_unique tokens_trained_total seconds peak_memory_mb seed versions"
)


@pytest.fixture
def short_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "recipes"
    shutil.copytree(str(resources.files("arpo") / "recipes"), root)
    for kind, cuts in CUTS.items():
        path = root / "quickstart" / f"{kind}.toml"
        text = path.read_text().replace("num_threads = 2", "num_threads = 1")
        for pattern, shorter in cuts:
            text, count = re.subn(pattern, shorter, text)
            assert count, (kind, pattern)
        path.write_text(text)
    monkeypatch.setattr(arpo.recipes, "_root", lambda: root)


@pytest.mark.usefixtures("short_recipe")
def test_the_quickstart_runs_reports_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "q"
    assert main(["quickstart", "--out", str(out), "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"$ arpo world make --out {out / 'world'} --seed 1" in printed.replace("\n", "")
    assert "$ arpo train quickstart" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert set(FIGURES.split()) <= set(summary)
    assert summary["leaves_per_group"] == 16
    assert summary["seconds"]["total"] == pytest.approx(sum(v for k, v in summary["seconds"].items() if k != "total"), abs=0.1)
    assert (out / "report.html").stat().st_size > 10_000

    records = (out / "eval_after" / "records.jsonl").read_bytes()
    shutil.rmtree(out / "eval_after")
    state = json.loads((out / "quickstart.json").read_text())
    del state["eval_after"], state["report"]
    (out / "quickstart.json").write_text(json.dumps(state))
    assert main(["quickstart", "--out", str(out), "--seed", "1"]) == 0
    again = capsys.readouterr().out
    assert "$ arpo train" not in again
    assert "done before" in again
    assert (out / "eval_after" / "records.jsonl").read_bytes() == records

    assert main(["quickstart", "--out", str(out), "--seed", "2"]) == 2
    assert "--overwrite" in capsys.readouterr().err
