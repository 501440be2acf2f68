"""`arpo init` writes a folder that runs as it is, and never writes over anything."""

import json
import shlex
from pathlib import Path

import pytest

import arpo as library
from arpo.cli.starter_files import COMMANDS


@pytest.fixture(scope="module")
def folder(arpo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder by `arpo init`, after the commands that it printed."""
    root = tmp_path_factory.mktemp("init")
    printed = arpo.succeed("init", "shop", cwd=root).stdout
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    assert commands == ["cd shop", *COMMANDS]
    for command in commands[1:]:
        arpo.succeed(*shlex.split(command)[1:], cwd=root / "shop")
    return root / "shop"


def test_the_printed_commands_train_and_evaluate(folder: Path):
    """The tiny model learns to ask; every part of the reward is on the trees; the runs keep the functions."""
    trees = [tree for file in sorted((folder / "runs/rl/rollouts").iterdir()) for tree in library.read_trees(file)]
    rewards = [leaf.reward for tree in trees for leaf in tree.leaves() if leaf.reward is not None]
    assert {"right", "calls"} <= {name for reward in rewards for name in reward.components}
    assert any(reward.components["right"] == 1.0 for reward in rewards), "some attempts are right"
    assert any(result.content.isdigit() for tree in trees for t in tree.trajectories() for result in t.tool_results)
    summary = json.loads((folder / "runs/eval/summary.json").read_text())
    assert summary["num_tasks"] == 8
    assert summary["accuracy"] > 0
    for run, names in (
        ("sft", {"my_tools.py"}),
        ("rl", {"my_tools.py", "my_reward.py"}),
        ("eval", {"my_tools.py", "my_reward.py"}),
    ):
        kept = folder / "runs" / run / "functions" / "1"
        assert {p.name for p in kept.glob("*.py")} == names
        assert all((kept / name).read_bytes() == (folder / name).read_bytes() for name in names)


def test_what_its_comments_tell_to_run_runs(arpo, folder: Path):
    called = arpo.succeed("tool", "call", "stock", "apples", "--config", "rl.toml", cwd=folder)
    assert called.stdout.startswith("12\n")
    arpo.succeed("data", "check", "conversations.jsonl", "--config", "sft.toml", cwd=folder)
    arpo.succeed("view", "runs/rl", cwd=folder)
    assert len({key for file in folder.glob("*.toml") for key in keys_of(file)}) <= 24


def keys_of(file: Path) -> list[str]:
    """The keys that a configuration sets, with comments or without: about twenty in all."""
    return [line.split("=")[0].strip() for line in file.read_text().splitlines() if " = " in line.split("#")[0]]


def test_nothing_is_overwritten(arpo, folder: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = arpo("init", "shop", "--out", folder.parent)
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 1)
    assert "nothing is overwritten" in refused.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        assert arpo("init", name, "--out", tmp_path).code == 2
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("name", ["..", "a/b", ".", ""])
def test_a_name_is_a_name(arpo, tmp_path: Path, name: str):
    refused = arpo("init", name, cwd=tmp_path)
    assert refused.code == 2
    assert "NAME is the name of one new folder" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_no_folder_is_made_where_its_code_would_not_run(arpo, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    refused = arpo("init", "shop", cwd=tmp_path)
    assert refused.code == 2
    assert "lies in a model directory" in refused.stderr
    arpo.succeed("init", "shop", "--out", tmp_path.parent / f"{tmp_path.name}_own")
