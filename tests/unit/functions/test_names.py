"""How a configuration names functions, and from where their paths count."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from arpo.config import dump_config, function_names, load_config, map_functions
from arpo.errors import ConfigError
from arpo.function_name import FunctionName
from arpo.rewards.config import RewardConfig
from arpo.tools.config import ToolsConfig
from arpo.training.config import RlRun


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("my_reward.py", "write my_reward.py:NAME"),
        ("https://host/my_reward.py:f", "an address"),
        ("hf://datasets/owner/name/reward.py:f", "an address"),
        ("my_reward.py:", "names no function"),
        (":f", "names no function"),
        ("my_reward.py:f()", "names no function"),
        ("my_reward.py:a.b", "names no function"),
        ("my reward:f", "neither a .py file nor a module"),
        ("a..b:f", "neither a .py file nor a module"),
        ("../my_reward:f", "neither a .py file nor a module"),
        ("correct", "names no function"),
    ],
)
def test_what_names_no_function_says_how_to_write_it(text, words):
    with pytest.raises(ValueError, match=words):
        FunctionName.parse(text)
    with pytest.raises(ValidationError, match=words):
        RewardConfig(rule=text)
    with pytest.raises(ValidationError, match=words):
        ToolsConfig(functions={"calc": text})


def test_a_path_counts_from_the_file_and_on_the_command_line_from_the_working_directory(tmp_path: Path, monkeypatch):
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (folder / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (folder / "rl.toml").write_text(
        'out = "o"\ntasks = "t.jsonl"\nmodel.path = "m"\nreward.rule = "deep/../r.py:f"\n'
        '[agent.tools.functions]\ncalc = "t.py:calc"\nother = "pkg.mod:other"\n'
        '[validation]\ntasks = "v.jsonl"\n[validation.tools.functions]\ncalc = "v.py:calc"\n'
    )
    run = load_config(
        RlRun, folder / "rl.toml", ["agent.tools.functions.calc=t.py:calc", "agent.tools.functions.more=~/h.py:f"]
    )
    assert run.reward.rule == f"{folder / 'r.py'}:f"
    assert run.agent.tools.functions == {
        "calc": f"{elsewhere / 't.py'}:calc", "other": "pkg.mod:other", "more": f"{Path.home() / 'h.py'}:f"
    }  # fmt: skip
    assert run.validation is not None
    assert run.validation.tools is not None
    assert run.validation.tools.functions == {"calc": f"{folder / 'v.py'}:calc"}
    assert {key: str(name) for key, name in function_names(run).items()} == {
        "reward.rule": run.reward.rule,
        **{f"agent.tools.functions.{name}": text for name, text in run.agent.tools.functions.items()},
        "validation.tools.functions.calc": f"{folder / 'v.py'}:calc",
    }
    monkeypatch.chdir(folder)
    (tmp_path / "again.toml").write_text(dump_config(run))
    assert load_config(RlRun, tmp_path / "again.toml") == run, "a run's record means the same everywhere"
    assert RewardConfig(rule="r.py:f").rule == f"{folder / 'r.py'}:f", "from Python: from the working directory"


def test_a_relative_configuration_file_in_the_working_directory(tmp_path: Path, monkeypatch):
    (tmp_path / "r.toml").write_text('rule = "r.py:f"\n')
    monkeypatch.chdir(tmp_path)
    assert load_config(RewardConfig, Path("r.toml")).rule == f"{tmp_path / 'r.py'}:f"


def test_the_short_form_of_a_reward(tmp_path: Path, monkeypatch):
    (tmp_path / "r.toml").write_text('out = "o"\ntasks = "t.jsonl"\nmodel = "m"\nreward = "r.py:f"\nagent.tools.python = {}\n')
    assert load_config(RlRun, tmp_path / "r.toml").reward.rule == f"{tmp_path / 'r.py'}:f"
    monkeypatch.chdir(tmp_path.parent)
    assert load_config(RlRun, tmp_path / "r.toml", ["reward=s.py:f"]).reward.rule == f"{tmp_path.parent / 's.py'}:f"


def test_functions_are_replaced_and_nothing_else():
    tools = ToolsConfig.model_validate({"functions": {"a": "/x/t.py:a", "b": "m:b"}, "executor": {"max_calls": 3}})
    moved = map_functions(tools, lambda key, name: FunctionName("/copy.py", name.name) if key == "functions.a" else name)
    assert moved == tools.model_copy(update={"functions": {"a": "/copy.py:a", "b": "m:b"}})
    assert map_functions(RewardConfig(), lambda key, name: pytest.fail("a rule by name is no function")) == RewardConfig()


def test_a_function_in_the_place_of_a_section_is_told_where_it_belongs():
    with pytest.raises(ConfigError, match=r"write functions\.calc = 'my_tools:calc'"):
        load_config(ToolsConfig, None, ["calc=my_tools:calc"])
