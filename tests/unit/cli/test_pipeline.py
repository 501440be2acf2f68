"""Pipelines: finished steps are skipped, unfinished ones go on, others' folders are left alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from arpo.cli.pipeline import Pipeline, Step, remaining_seconds
from arpo.errors import RunError


class Commands:
    """Stands for the command line: a command is the name of a folder to make and, for a step that resumes, to begin."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.fails: set[str] = set()

    def __call__(self, command: Sequence[str]) -> int:
        self.ran.append(tuple(command))
        folder = Path(command[-1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").touch()
        return 130 if command[0] in self.fails else 0


def step(name: str, out: Path, *, seconds: float = 1.0, resumes: bool = False, extra: str = "") -> Step:
    folder = out / name
    resume = (f"resume-{name}", str(folder)) if resumes else None
    return Step(
        name=name, title=name, command=(name, *filter(None, [extra]), str(folder)), out=folder, resume=resume, seconds=seconds
    )


def test_a_failed_step_ends_the_run_and_the_next_run_goes_on_with_it(tmp_path: Path):
    out, main = tmp_path / "p", Commands()
    steps = [step("a", out), step("b", out, resumes=True), step("c", out)]
    main.fails = {"b"}
    assert Pipeline("demo", out, main).run(steps) == 130
    assert [c[0] for c in main.ran] == ["a", "b"]
    done: list[str] = []
    assert Pipeline("demo", out, main).run(steps, done.append) == 0
    assert [c[0] for c in main.ran] == ["a", "b", "resume-b", "c"]
    assert done == ["a", "b", "c"]
    assert Pipeline("demo", out, main).run(steps) == 0
    assert len(main.ran) == 4
    state = json.loads((out / "demo.json").read_text())
    assert list(state) == ["a", "b", "c"]


def test_a_step_that_cannot_resume_starts_over_in_an_empty_folder(tmp_path: Path):
    out, main = tmp_path / "p", Commands()
    main.fails = {"a"}
    pipeline = Pipeline("demo", out, main)
    assert pipeline.run([step("a", out)]) == 130
    (out / "a" / "half.bin").touch()
    main.fails = set()
    assert pipeline.run([step("a", out)]) == 0
    assert not (out / "a" / "half.bin").exists()


def test_a_finished_step_of_another_command_or_recipe_is_refused(tmp_path: Path):
    out, main, recipe = tmp_path / "p", Commands(), tmp_path / "recipe.toml"
    assert Pipeline("demo", out, main).run([step("a", out)]) == 0
    with pytest.raises(RunError, match=r"step 'a' had another seed or configuration.*--overwrite"):
        Pipeline("demo", out, main).run([step("a", out, extra="--seed=1")])
    recipe.write_text("x = 1")
    shaped = Step(name="b", title="b", command=("b", str(out / "b")), out=out / "b", recipe=recipe, seconds=1)
    assert Pipeline("demo", out, main).run([shaped]) == 0
    recipe.write_text("x = 2")
    with pytest.raises(RunError, match="step 'b' had another"):
        Pipeline("demo", out, main).run([shaped])
    assert Pipeline("demo", out, main, overwrite=True).run([shaped]) == 0
    assert not (out / "a").exists()


def test_a_folder_of_something_else_is_never_deleted(tmp_path: Path):
    (tmp_path / "mine.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"not empty and not written by `arpo demo`.*--out"):
            Pipeline("demo", tmp_path, Commands(), overwrite=overwrite)
    assert (tmp_path / "mine.txt").exists()


def test_the_remaining_time_follows_the_finished_steps(tmp_path: Path):
    """60 s usual took 90, and a minute counts as usual: 150 of 120 s, so that 100 usual seconds are 125."""
    steps = [step("a", tmp_path, seconds=60), step("b", tmp_path, seconds=70), step("c", tmp_path, seconds=30)]
    assert remaining_seconds(steps, steps, {}) == 160
    assert remaining_seconds(steps[1:], steps, {"a": {"seconds": 90.0}}) == pytest.approx(125)
    assert remaining_seconds(steps[2:], steps, {"a": {"seconds": 90.0}, "c": {"seconds": 30.0}}) == 0
