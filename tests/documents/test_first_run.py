"""docs/first_run.md, followed from top to bottom in an empty folder: with a tiny policy; with SmolLM2 in `make test-slow`."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from arpo.cli.main import main
from arpo.cli.starter_files import write_starter

from .blocks import ROOT, Line, blocks, command_lines

PAGE = ROOT / "docs" / "first_run.md"
BLOCKS = blocks(PAGE)
FILES = {block.name: block.text for block in BLOCKS if block.name and block.language in ("python", "toml")}
COMMANDS = [line for block in BLOCKS if block.language == "sh" and not block.reason for line in command_lines(block)]
MODEL = "models/smollm2"


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, str]]:
    """Writes the page's files into the folder with the model, runs its commands in order, and returns what each printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(line: Line) -> str:
        program, *words = line.argv
        if program == "python":
            return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout
        assert main(words) == 0, line
        return capsys.readouterr().out

    def follow() -> dict[str, str]:
        for name, text in FILES.items():
            (tmp_path / name).write_text(text)
        return {" ".join(line.argv): run(line) for line in COMMANDS}

    return follow


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def check_runs(folder: Path) -> None:
    """The runs that the page says are there."""
    assert read(folder / "runs/sft/summary.json")["num_conversations"] == 64
    assert read(folder / "runs/rl/summary.json")["num_steps"] == 9, "8, and one more after --resume"
    for name in ("eval", "eval_before"):
        assert read(folder / f"runs/{name}/summary.json")["num_tasks"] == 32
        assert (folder / f"runs/{name}/report.html").is_file()
    assert (folder / "runs/rl/report.html").is_file()
    assert (folder / "models/shop/tokenizer.json").is_file()
    steps = [json.loads(row) for row in (folder / "runs/rl/metrics.jsonl").read_text().splitlines()]
    assert all("reward/right" in step and "reward/calls" in step for step in steps), "each part of the reward is a metric"


def test_the_page_works_from_top_to_bottom(tmp_path: Path, follow: Callable[[], dict[str, str]]):
    """The tiny policy of `arpo init` stands in for SmolLM2; its tokenizer carries any text."""
    write_starter(tmp_path / "starter")
    (tmp_path / "models").mkdir()
    (tmp_path / "starter" / "policy").rename(tmp_path / MODEL)
    printed = follow()
    check_runs(tmp_path)
    assert printed["arpo tool call price mug --config rl.toml"].startswith("6\n")
    shown = printed["arpo data check conversations.jsonl --config sft.toml --show 1"]
    assert "64 of 64 rows are usable conversations" in shown
    (rendered,) = (block.text for block in BLOCKS if block.name == "rendered")
    trained = re.findall(r"trains ─+\n(.*)\n", rendered)
    assert trained == re.findall(r"trains ─+\n(.*)\n", shown), "the same turns, whatever the tokenizer"


@pytest.mark.slow
def test_the_page_works_with_smollm2(tmp_path: Path, follow: Callable[[], dict[str, str]]):
    """ARPO_SMOLLM2 names a directory of SmolLM2-135M-Instruct; a run of `make smollm2` leaves one."""
    known = [os.environ.get("ARPO_SMOLLM2", ""), str(ROOT / "runs" / "smollm2" / "model")]
    found = next((Path(name) for name in known if name and (Path(name) / "config.json").is_file()), None)
    if found is None:
        pytest.skip("no SmolLM2: run `make smollm2`, or name its directory in ARPO_SMOLLM2")
    (tmp_path / "models").mkdir()
    (tmp_path / MODEL).symlink_to(found.resolve())
    printed = follow()
    check_runs(tmp_path)
    (rendered,) = (block.text for block in BLOCKS if block.name == "rendered")
    assert rendered.strip() in printed["arpo data check conversations.jsonl --config sft.toml --show 1"]
    assert read(tmp_path / "runs/sft/summary.json")["loss"] < 0.5, "it learned the conversations"
    assert read(tmp_path / "runs/eval/summary.json")["accuracy"] > 0.1, "and answers questions that it has not seen"


def test_the_page_has_about_twenty_keys_each_explained_where_it_first_stands():
    """A key counts once, whichever of the three files has it."""
    keys: dict[str, str] = {}
    for name in ("sft.toml", "rl.toml", "eval.toml"):
        for key in flat(tomllib.loads(FILES[name])):
            if (bare := key.removeprefix("agent.")) not in keys:
                keys[bare] = name
                assert is_explained(FILES[name], key.rsplit(".", 1)[-1]), f"{name}: {key}"
    assert len(keys) <= 22, sorted(keys)


def flat(keys: dict, prefix: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in keys.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return values


def is_explained(text: str, key: str) -> bool:
    """Whether a comment stands behind the key's value, which may be a text of several lines."""
    rest = text[text.index(f"\n{key} = ") + 1 :] if not text.startswith(f"{key} = ") else text
    if rest.startswith(f'{key} = """'):
        rest = rest.split('"""', 2)[2]
    return "# " in rest.split("\n", 1)[0]
