import pytest

from arpo.cli.overrides import join_values, place_tools, to_overrides
from arpo.config import Config
from arpo.errors import ConfigError
from arpo.evaluation.config import EvalRun
from arpo.tools.config import ToolsConfig
from arpo.training.config import RlRun, SftRun
from arpo.world.config import DemosRun


def test_both_ways_to_write_a_dotted_key_mean_the_same():
    assert join_values(["train", "r", "--a.b", "8", "--c.d=9"], dotted_only=True) == ["train", "r", "--a.b=8", "--c.d=9"]


def test_a_dotted_key_before_the_recipe_does_not_swallow_it():
    assert join_values(["train", "--a.b", "8", "r"], dotted_only=True) == ["train", "--a.b=8", "r"]


def test_options_of_the_parser_keep_their_values_apart():
    assert join_values(["train", "--resume", "run", "--a.b", "1"], dotted_only=True) == ["train", "--resume", "run", "--a.b=1"]
    assert join_values(["--seed", "3", "--a.b", "1"]) == ["--seed=3", "--a.b=1"]
    assert join_values(["--a.b=1", "quickstart"]) == ["--a.b=1", "quickstart"]


def test_a_negative_value_is_a_value():
    assert join_values(["--a.b", "-1"], dotted_only=True) == ["--a.b=-1"]


def test_a_dotted_key_without_value_is_refused_with_its_name():
    assert join_values(["--a.b", "--c.d=1"], dotted_only=True) == ["--a.b", "--c.d=1"]
    with pytest.raises(ConfigError, match=r"'--a\.b'.*has no value"):
        to_overrides(["--a.b", "--c.d=1"])


def test_leftovers_become_overrides():
    assert to_overrides(["--a.b=8", "--seed", "3", "--text=x=y"]) == ["a.b=8", "seed=3", "text=x=y"]


@pytest.mark.parametrize("argument", ["stray", "-x", "--", "--=3"])
def test_what_is_no_key_is_refused(argument: str):
    with pytest.raises(ConfigError, match="not understood"):
        to_overrides([argument])


@pytest.mark.parametrize("prefix", ["", "tools.", "agent.tools."])
@pytest.mark.parametrize(
    ("cls", "own"),
    [(RlRun, "agent.tools."), (EvalRun, "agent.tools."), (DemosRun, "agent.tools."), (SftRun, "tools."), (ToolsConfig, "")],
)
def test_a_key_of_a_tool_has_one_spelling_for_every_command(cls: type[Config], own: str, prefix: str):
    given = [f"{prefix}search.index=a.b=c", f"{prefix}python.wall_s=1", f"{prefix}mcp.x.url=http://h/"]
    assert place_tools(cls, given) == [f"{own}search.index=a.b=c", f"{own}python.wall_s=1", f"{own}mcp.x.url=http://h/"]


def test_other_keys_stay_where_they_are():
    keys = [
        "seed=3",
        "validation.tools.search.index=x",
        "agent.limits.max_turn_tokens=4",
        "agent.protocol.tools=[]",
        "no.such=1",
    ]
    assert place_tools(RlRun, keys) == keys
    assert place_tools(SftRun, ["search=x"]) == ["tools.search=x"]
