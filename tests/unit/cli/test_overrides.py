import pytest

from arpo.cli.overrides import join_dotted, to_overrides
from arpo.errors import ConfigError


def test_both_ways_to_write_a_dotted_key_mean_the_same():
    assert join_dotted(["train", "r", "--a.b", "8", "--c.d=9"]) == ["train", "r", "--a.b=8", "--c.d=9"]


def test_a_dotted_key_before_the_recipe_does_not_swallow_it():
    assert join_dotted(["train", "--a.b", "8", "r"]) == ["train", "--a.b=8", "r"]


def test_a_negative_value_is_a_value():
    assert join_dotted(["--a.b", "-1"]) == ["--a.b=-1"]


def test_a_dotted_key_without_value_is_refused_with_its_name():
    assert join_dotted(["--a.b", "--c.d=1"]) == ["--a.b", "--c.d=1"]
    with pytest.raises(ConfigError, match=r"'--a\.b'.*has no value"):
        to_overrides(["--a.b", "--c.d=1"])


def test_leftovers_become_overrides():
    assert to_overrides(["--a.b=8", "--seed", "3", "--text=x=y"]) == ["a.b=8", "seed=3", "text=x=y"]


@pytest.mark.parametrize("argument", ["stray", "-x", "--", "--=3"])
def test_what_is_no_key_is_refused(argument: str):
    with pytest.raises(ConfigError, match="not understood"):
        to_overrides([argument])
