from pathlib import Path

import pytest

from arpo.cli.recipes import find_recipe, recipe_names
from arpo.errors import ConfigError


def test_a_recipe_is_found_by_name_and_a_file_by_path(tmp_path: Path):
    own = tmp_path / "mine.toml"
    own.write_text("seed = 1\n")
    assert find_recipe(str(own), "rl") == own
    assert find_recipe("quickstart", "rl").name == "rl.toml"


@pytest.mark.parametrize("kind", ["demos", "sft", "rl", "rollout", "eval"])
def test_the_quickstart_has_every_file(kind: str):
    assert "quickstart" in recipe_names(kind)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(ConfigError, match=r"'quikstart'.*quickstart"):
        find_recipe("quikstart", "rl")
