"""What a run keeps of its functions, and when it may go on with them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from arpo.config import dump_config
from arpo.errors import ConfigError, RunError
from arpo.evaluation.config import EvalRun
from arpo.functions import loading
from arpo.functions.record import code_identities, read_record
from arpo.functions.run_functions import RunFunctions


class Project:
    """A folder with functions, and a run of them."""

    def __init__(self, root: Path) -> None:
        self.root = root / "project"
        self.root.mkdir(parents=True)
        self.write("my_reward.py", "import helpers\ndef correct(t): return helpers.ONE\n")
        self.write("helpers.py", "ONE = 1\n")
        self.write("my_tools.py", 'def calc(x: int) -> int:\n    "Adds."\n    return x\n')
        self.run = root / "run"

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def config(self, out: Path | None = None, model: Path | None = None, **changes: Any) -> EvalRun:
        keys = {
            "out": out or self.run, "tasks": "t.jsonl", "model": {"path": model or "m"},
            "reward": {"rule": f"{self.root}/my_reward.py:correct"},
            "agent": {"tools": {"functions": {"calc": f"{self.root}/my_tools.py:calc"}}},
        }  # fmt: skip
        return EvalRun.model_validate(keys | changes)

    def begin(self, **changes: Any) -> None:
        config = self.config(**changes)
        config.out.mkdir(parents=True)
        RunFunctions(config, resume=False).keep()
        (config.out / "config.toml").write_text(dump_config(config))

    def go_on(self, **options: Any) -> RunFunctions[EvalRun]:
        functions = RunFunctions(self.config(), resume=True, **options)
        functions.keep()
        return functions


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_run_keeps_each_file_and_its_digest(project: Project):
    project.begin()
    folder = project.run / "functions" / "1"
    copies = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.py")}
    assert copies == {p.name: p.read_text() for p in project.root.glob("*.py")}
    kept = {entry["copy"]: entry["sha256"] for entry in json.loads((folder / "functions.json").read_text())["files"]}
    assert kept["helpers.py"] == "39bd6338f823f95e11bbb30be8444a94a9e4d283374e18859e8b7d2e2862f06a", (
        "printf 'ONE = 1\\n' | sha256sum"
    )
    project.go_on()
    assert [p.name for p in (project.run / "functions").iterdir()] == ["1"], "nothing changed, nothing is written again"


@pytest.mark.parametrize("name", ["my_reward.py", "helpers.py", "my_tools.py"])
@pytest.mark.parametrize("change", ["edited", "removed", "one byte"])
def test_a_changed_file_is_not_run_unless_one_says_so(project: Project, name: str, change: str):
    project.begin()
    file = project.root / name
    text = "import sys\nsys.arpo_was_run = True\n" + file.read_text() if change == "edited" else file.read_text() + " "
    file.unlink() if change == "removed" else file.write_text(text)
    what = "is not there any more" if change == "removed" else "has changed"
    with pytest.raises(RunError, match=f"{name} {what} since this run began; .*--functions=files.*--functions=copies") as error:
        project.go_on()
    assert "\n" not in str(error.value)
    assert not hasattr(sys, "arpo_was_run")
    copies = project.go_on(files="copies").in_force(project.config())
    assert copies.reward.rule == f"{project.run / 'functions' / '1' / 'my_reward.py'}:correct"
    assert copies.agent.tools.functions == {"calc": f"{project.run / 'functions' / '1' / 'my_tools.py'}:calc"}
    assert not hasattr(sys, "arpo_was_run")
    with pytest.raises(RunError):
        project.go_on()  # copies are asked for each time
    if change != "removed":
        assert project.go_on(files="files").in_force(project.config()) == project.config()
        project.go_on()  # the changed files are now the run's
        record = read_record(project.run)
        assert record is not None
        assert record.folder.name == "2"
        vars(sys).pop("arpo_was_run", None)


def test_a_new_file_that_hides_a_module_is_a_change(project: Project):
    project.write("my_reward.py", "import tomli_w\ndef correct(t): return 1\n")
    project.begin()
    project.write("tomli_w.py", "")
    loading._forget(loading._own.pop(project.root))  # as a new process
    installed = sys.modules.pop("tomli_w")
    try:
        with pytest.raises(RunError, match=r"tomli_w.py, which is imported now, is new since"):
            project.go_on()
    finally:
        sys.modules["tomli_w"] = installed


def test_a_changed_copy_is_not_run(project: Project):
    project.begin()
    project.write("helpers.py", "ONE = 2\n")
    copy = project.run / "functions" / "1" / "helpers.py"
    copy.write_text("raise RuntimeError('was run')\n")
    with pytest.raises(RunError, match="this copy was changed or removed"):
        project.go_on(files="copies")


def test_the_copies_of_a_downloaded_run_are_not_run(project: Project):
    """A run's folder out of a snapshot of the hub, with a record that fits its copies."""
    project.begin()
    (project.run / ".gitattributes").write_text("*.ftz filter=lfs diff=lfs merge=lfs -text\n")
    project.write("helpers.py", "ONE = 2\n")
    with pytest.raises(ConfigError, match=r"lies in a snapshot of a hub's repository .*never run"):
        project.go_on(files="copies")


def test_other_functions_than_those_of_the_beginning(project: Project):
    project.begin()
    changed = project.config(reward={"rule": f"{project.root}/my_tools.py:calc"})
    with pytest.raises(
        RunError, match=r"reward.rule was .*my_reward.py:correct and is .*my_tools.py:calc since this run began"
    ):
        RunFunctions(changed, resume=True)
    without = project.config(reward={})
    with pytest.raises(RunError, match="and is missing since"):
        RunFunctions(without, resume=True)


def test_a_run_without_a_record_runs_no_function_unless_one_says_so(project: Project):
    project.run.mkdir()
    (project.run / "config.toml").write_text(dump_config(project.config()))
    with pytest.raises(RunError, match=r"was missing and is .*--functions=files"):
        project.go_on()
    with pytest.raises(RunError, match="holds no copies"):
        project.go_on(files="copies")
    project.go_on(files="files")
    project.go_on()


def test_the_same_code_is_the_same_function_wherever_it_lies(project: Project, tmp_path: Path):
    """What one evaluation is compared by: the name and the code, of the function and of what it imports."""
    project.begin()
    first = code_identities(project.run)
    assert {key: text.split(", code ")[0] for key, text in first.items()} == {
        "reward.rule": "my_reward.py:correct", "agent.tools.functions.calc": "my_tools.py:calc"
    }  # fmt: skip
    moved = Project(tmp_path / "other")
    moved.begin()
    assert code_identities(moved.run) == first
    project.write("helpers.py", "ONE = 2\n")
    project.begin(out=tmp_path / "second")
    second = code_identities(tmp_path / "second")
    assert second["reward.rule"] != first["reward.rule"]
    assert second["agent.tools.functions.calc"] == first["agent.tools.functions.calc"]
    assert code_identities(tmp_path / "none") == {}


@pytest.mark.parametrize("damage", ["{", "[]", '{"files": [{}], "functions": {}, "given": []}'])
def test_a_damaged_record_is_one_line(project: Project, damage: str):
    project.begin()
    (project.run / "functions" / "1" / "functions.json").write_text(damage)
    with pytest.raises(RunError, match=r"functions.json: cannot read this record"):
        project.go_on()


def test_the_choice_without_functions_has_no_effect(project: Project):
    plain = {"reward": {}, "agent": {"tools": {"python": {}}}}
    project.begin(**plain)
    for files in ("copies", "files"):
        for resume in (False, True):
            with pytest.raises(ConfigError, match=f"functions = '{files}' has no effect"):
                RunFunctions(project.config(**plain), resume=resume, files=files)
    with pytest.raises(ConfigError, match="use 'same', 'copies' or 'files'"):
        RunFunctions(project.config(**plain), resume=False, files="all")  # pyright: ignore[reportArgumentType]


def test_functions_given_from_python_must_be_given_again(tmp_path: Path):
    project = Project(tmp_path)
    plain = {"reward": {}, "agent": {"tools": {"python": {}}}}
    config = project.config(**plain)
    config.out.mkdir()
    RunFunctions(config, resume=False, reward_fn=len, tools=["stock", "calc"]).keep()
    (config.out / "config.toml").write_text(dump_config(config))
    with pytest.raises(RunError, match=r"began in Python with reward_fn, tools.calc, .*resume=True and the same arguments"):
        RunFunctions(config, resume=True, tools=["stock"])
    with pytest.raises(RunError, match=r"began without tools.more"):
        RunFunctions(config, resume=True, reward_fn=len, tools=["stock", "calc", "more"])
    RunFunctions(config, resume=True, reward_fn=max, tools=["calc", "stock"]).keep()


def test_an_evaluation_of_a_run_uses_the_files_it_was_trained_with(project: Project, tmp_path: Path):
    """Only files that both name count: the policy's tool matters, another reward of the evaluation does not."""
    project.begin()
    model = project.run / "checkpoints" / "step_000002" / "model"
    model.mkdir(parents=True)
    (project.run / "final").symlink_to(Path("checkpoints") / "step_000002" / "model")
    policy = project.run / "final"
    config = project.config(out=tmp_path / "eval", model=policy)
    RunFunctions(config, resume=False, policy=policy)
    project.write("my_tools.py", 'def calc(x: int) -> int:\n    "Adds."\n    return x + 1\n')
    with pytest.raises(RunError, match=r"run: .*my_tools.py has changed since this run began"):
        RunFunctions(config, resume=False, policy=policy)
    RunFunctions(config, resume=False, policy=policy, files="files")
    copies = RunFunctions(config, resume=False, policy=policy, files="copies").in_force(config)
    assert copies.agent.tools.functions["calc"] == f"{project.run / 'functions' / '1' / 'my_tools.py'}:calc"
    other = project.config(out=tmp_path / "eval", model=policy, reward={}, agent={"tools": {"python": {}}})
    RunFunctions(other, resume=False, policy=policy)


def test_an_evaluation_may_bring_a_function_that_training_had_not(project: Project, tmp_path: Path):
    """A supervised run keeps the tool; the evaluation's reward is new, beside it and with an import of its own."""
    project.begin(reward={})
    policy = project.run / "final"
    config = project.config(out=tmp_path / "eval", model=policy)
    for files in ("same", "files", "copies"):
        RunFunctions(config, resume=False, policy=policy, files=files)
    project.write("my_tools.py", 'import helpers\ndef calc(x: int) -> int:\n    "Adds."\n    return x\n')
    with pytest.raises(RunError, match=r"my_tools.py has changed since"):
        RunFunctions(config, resume=False, policy=policy)


def test_files_in_the_folders_that_a_run_reads_are_not_run(project: Project):
    with pytest.raises(ConfigError, match=r"lies in the folder of tasks .*never run"):
        RunFunctions(project.config(tasks=project.root), resume=False)
    with pytest.raises(ConfigError, match=r"lies in the folder of model.path"):
        RunFunctions(project.config(model=project.root), resume=False)
    RunFunctions(project.config(tasks=project.root / "t.jsonl"), resume=False)
