from pathlib import Path

import pytest

from arpo.cli.kinds import config_class
from arpo.config import load_config
from arpo.errors import ConfigError
from arpo.evaluation.config import EvalRun
from arpo.protocols.config import PROMPTS
from arpo.recipes import find_recipe, read_recipe_in, recipe_names
from arpo.tools.build import section_names


def test_a_recipe_is_found_by_name_and_a_file_by_path(tmp_path: Path):
    own = tmp_path / "mine.toml"
    own.write_text("seed = 1\n")
    assert find_recipe(str(own), "rl") == own
    assert find_recipe("quickstart", "rl").name == "rl.toml"


@pytest.mark.parametrize("kind", ["demos", "sft", "rl", "rollout", "eval"])
def test_the_quickstart_has_every_file(kind: str):
    assert "quickstart" in recipe_names(kind)


@pytest.mark.parametrize("kind", ["world", "demos", "sft", "rl", "rollout", "eval"])
def test_smollm2_has_every_file_and_each_is_a_configuration(kind: str):
    keys = load_config(config_class(kind), find_recipe("smollm2", kind)).model_dump(mode="json")
    if kind in ("sft", "rl", "rollout", "eval"):
        assert keys["model"]["dtype"] == "bfloat16"
    if kind in ("demos", "rl", "rollout", "eval"):  # what was demonstrated can be sampled
        demonstrated = load_config(config_class("demos"), find_recipe("smollm2", "demos")).model_dump(mode="json")["agent"]
        for section in ("protocol", "limits"):
            assert keys["agent"][section] == demonstrated[section]
        assert keys["agent"]["tools"]["executor"] == demonstrated["tools"]["executor"]


@pytest.mark.parametrize("name", ["direct", "tir", "react", "search_o1"])
def test_a_baseline_agent_offers_the_tools_it_has(name: str):
    config = load_config(EvalRun, find_recipe(name, "eval"))
    assert section_names(config.agent.tools) == set(config.agent.protocol.tools)
    assert config.agent.protocol.system_prompt in PROMPTS


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(ConfigError, match=r"'quikstart'.*quickstart"):
        find_recipe("quikstart", "rl")


def test_a_recipe_is_read_as_if_made_for_another_folder(tmp_path: Path):
    keys = read_recipe_in(tmp_path, "quickstart", "rl")
    assert keys["out"] == str(tmp_path / "rl")
    assert keys["validation"]["tools"]["search"]["index"] == str(tmp_path / "index")
    assert keys["algorithm"] == "arpo"
    assert "runs/quickstart" not in str(keys)
