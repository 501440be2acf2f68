"""Configuration files and overrides: what they say is what counts, and a wrong key is answered with the right one."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from arpo.conditions import IS_SET, above, at_least, holding, only_with, other_than
from arpo.config import Config, config_keys, dump_config, load_config, merge_keys, parse_config, value_at, without_other_types
from arpo.errors import ConfigError
from arpo.rollout.config import AgentConfig
from arpo.tools.config import ToolsConfig


class Plain(Config):
    """One kind of rule."""

    type: Literal["plain"] = "plain"
    """Which."""


class Sharp(Config):
    """Another kind of rule."""

    type: Literal["sharp"] = "sharp"
    """Which."""
    threshold: float = 0.5
    """Where it cuts."""


class Inner(Config):
    """A section."""

    group_size: int = Field(default=16, ge=1)
    """Trajectories per task."""
    rule: Annotated[Plain | Sharp, Field(discriminator="type")] = Plain()
    """The rule."""
    folder: Path | None = None
    """A folder; None means none."""


class Run(Config):
    """A whole run."""

    name: str
    """What it is called."""
    inner: Inner = Inner()
    """The section."""
    tools: tuple[str, ...] = ()
    """Names."""

    @model_validator(mode="after")
    def _check(self) -> "Run":
        if self.name == "both" and self.tools:
            raise ValueError("name and tools contradict each other")
        return self


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('name = "from file"\n[inner]\ngroup_size = 4\n')
    return path


def test_overrides_win_over_the_file_and_the_file_over_defaults(file: Path) -> None:
    run = load_config(Run, file, ["inner.rule.type=sharp", "inner.rule.threshold=0.25", 'tools=["a", "b"]'])
    assert run == Run(name="from file", inner=Inner(group_size=4, rule=Sharp(threshold=0.25)), tools=("a", "b"))
    assert load_config(Run, file, ["inner.group_size=8", "inner.group_size=2"]).inner.group_size == 2


@pytest.mark.parametrize(
    ("text", "name"), [("plain words", "plain words"), ('"quoted"', "quoted"), ("", ""), ("a=b", "a=b"), ("2020-x", "2020-x")]
)
def test_what_is_no_toml_is_a_string(text: str, name: str) -> None:
    assert load_config(Run, None, [f"name={text}"]).name == name


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("inner.group_sise=4", "did you mean 'inner.group_size'"),
        ("group_size=4", "did you mean 'inner.group_size'"),
        ("inner.rule.treshold=1", "did you mean 'inner.rule.threshold'"),
        ("iner.group_size=4", "did you mean 'inner.group_size'"),
        ("zzz=1", "arpo config docs"),
        ("inner.group_size=0", "inner.group_size = 0"),
        ("inner.group_size=many", "inner.group_size = 'many'"),
        ("inner.rule.type=blunt", "blunt"),
        ("no_equals_sign", "--section.key=value"),
        ("=3", "--section.key=value"),
        ("name.sub=3", "'name' is a value, not a section"),
    ],
)
def test_a_wrong_override_is_explained(override: str, said: str) -> None:
    rule = ["inner.rule.type=sharp"] if "treshold" in override else []
    with pytest.raises(ConfigError, match=said):
        load_config(Run, None, ["name=x", *rule, override])


def test_a_key_in_a_section_with_types_is_named_as_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"^command line: inner\.rule\.threshold = 'high': "):
        load_config(Run, None, ["name=x", "inner.rule.type=sharp", "inner.rule.threshold=high"])


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Run, None, ["inner.group_size=0", "unknown=1"])
    assert all(part in str(error.value) for part in ("name is missing", "inner.group_size", "unknown"))
    assert str(error.value).count("command line: ") == 3


def test_a_contradiction_is_explained_without_the_library_s_words() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(Run, {"name": "both", "tools": ["a"]}, source="here")
    assert str(error.value) == "here: name and tools contradict each other"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(Run, tmp_path / "absent.toml")
    for content in (b"name = ", b'name = "\xff"'):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
            load_config(Run, tmp_path / "bad.toml")


def test_a_dump_reads_back_as_the_same_configuration(file: Path) -> None:
    run = load_config(Run, file, ["inner.rule.type=sharp", "inner.folder=/x"])
    assert parse_config(Run, tomllib.loads(dump_config(run)), "dump") == run
    assert "folder" not in dump_config(load_config(Run, file))


def test_a_configuration_cannot_be_changed(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config(Run, file).name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_keys_are_listed_with_their_meaning() -> None:
    keys = {key: (type_, default, meaning) for key, type_, default, meaning in config_keys(Run)}
    assert keys["name"] == ("str", "(required)", "What it is called.")
    assert keys["inner.group_size"] == ("int", 16, "Trajectories per task.")
    assert keys["inner.rule.threshold"] == ("float", 0.5, "Where it cuts.")
    assert keys["inner.folder"] == ("Path | None", None, "A folder; None means none.")


def test_a_key_of_another_type_of_a_section_is_told_apart_from_an_unknown_one():
    with pytest.raises(ConfigError, match=r"protocol\.arguments has no effect with protocol\.type = 'hermes'.* = 'tags'$"):
        parse_config(AgentConfig, {"protocol": {"type": "hermes", "arguments": {}}}, "t")


def test_sections_by_a_name_of_ones_own_are_explained():
    types = {key: type_ for key, type_, *_ in config_keys(ToolsConfig)}
    assert "mcp.<name>.command" in types
    assert types["mcp"] == "dict[str, McpServerConfig]"


def test_bounds_of_what_a_tuple_holds_are_no_part_of_its_type():
    class Drawn(Config):
        pairs: tuple[tuple[int, Annotated[float, Field(ge=0)]], ...] | None = None

    assert next(iter(config_keys(Drawn)))[1] == "tuple[tuple[int, float], ...] | None"


def test_defaults_of_a_section_s_place_hold_for_every_key_left_out() -> None:
    """Also when other keys of the section are given; another type of the section has its own."""

    class Clock(Config):
        type: Literal["clock"] = "clock"
        hours: int = 12
        minutes: int = 0

    class Sundial(Config):
        type: Literal["sundial"] = "sundial"
        hours: int = 6

    class Tower(Config):
        clock: Clock | Sundial = Clock(hours=24, minutes=30)

    class Town(Config):
        tower: Tower = Tower(clock=Clock(hours=10))

    def read(data: dict[str, Any]) -> Clock | Sundial:
        return parse_config(Tower, data, "test").clock

    assert read({"clock": {"minutes": 5}}) == Clock(hours=24, minutes=5)
    assert read({"clock": {"hours": 1}}) == Clock(hours=1, minutes=30)
    assert read({"clock": {"type": "clock", "hours": 1}}) == Clock(hours=1, minutes=30)
    assert read({"clock": {"type": "sundial"}}) == Sundial(hours=6)
    assert parse_config(Town, {"tower": {"clock": {"minutes": 5}}}, "test").tower.clock == Clock(hours=10, minutes=5)
    assert {key: default for key, _, default, _ in config_keys(Town)}["tower.clock.hours"] in (10, 6)


class Mixed(Config):
    """Keys that mean something beside others."""

    kind: Literal["plain", "mixed", "both"] = "plain"
    """Which."""
    share: Annotated[float, only_with(kind=("mixed", "both"))] = 0.5
    """Of a kind."""
    cost: float = 0.0
    """A number."""
    free: Annotated[int, only_with(cost=above(0), kind="both")] = 0
    """Of a number, or of a kind."""
    path: Annotated[Path | None, only_with(cost=above(0))] = None
    """Of a number."""
    sinks: tuple[str, ...] = ()
    """A list."""
    project: Annotated[str, only_with(sinks=holding("a", "b"))] = "p"
    """Of a list."""
    args: Annotated[tuple[str, ...], only_with(path=IS_SET)] = ()
    """Of a path."""


class Holder(Config):
    """Sections, one of them by names of one's own."""

    part: Mixed = Mixed()
    """A section."""
    more: dict[str, Mixed] = Field(default_factory=dict)
    """Sections by name."""


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "share=0.3",
            "part.share = 0.3 has no effect with part.kind = 'plain'; leave it at 0.5 or set part.kind = 'mixed' or 'both'",
        ),
        (
            "free=2",
            "part.free = 2 has no effect with part.cost = 0.0 and part.kind = 'plain'; leave it at 0 or set part.cost above 0, "
            "or part.kind = 'both'",
        ),
        ("path=x", "part.path = 'x' has no effect with part.cost = 0.0; leave it out or set part.cost above 0"),
        (
            "project=q",
            "part.project = 'q' has no effect with part.sinks = []; leave it at 'p' or set part.sinks with 'a' or 'b' in it",
        ),
        ('args=["--key", "secret"]', "part.args has no effect with part.path = None; leave it out or set part.path"),
    ],
)
def test_a_key_without_what_it_depends_on_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Holder, None, [f"part.{override}"])
    assert str(error.value) == f"command line: {said}"
    with pytest.raises(ConfigError, match=r"more\.mine\."):
        load_config(Holder, None, [f"more.mine.{override}"])


def test_a_key_means_something_beside_what_it_depends_on_and_its_default_asks_for_nothing() -> None:
    part = ["part.kind=both", "part.share=0.3", "part.free=2", 'part.sinks=["c", "a"]', "part.project=q"]
    assert load_config(Holder, None, part).part == Mixed(kind="both", share=0.3, free=2, sinks=("c", "a"), project="q")
    assert load_config(Holder, None, ["part.share=0.5", "part.free=0", "part.project=p"]) == Holder()


def test_what_is_printed_is_in_force_and_reads_back() -> None:
    holder = Holder(part=Mixed(cost=1.0), more={"mine": Mixed(kind="mixed"), "other": Mixed(sinks=("b",))})
    printed = tomllib.loads(dump_config(holder))
    assert printed["part"] == {"kind": "plain", "cost": 1.0, "free": 0, "sinks": []}
    assert printed["more"]["mine"] == {"kind": "mixed", "share": 0.5, "cost": 0.0, "sinks": []}
    assert printed["more"]["other"] == {"kind": "plain", "cost": 0.0, "sinks": ["b"], "project": "p"}
    assert parse_config(Holder, printed, "printed") == holder


def test_conditions_stand_beside_the_keys() -> None:
    meanings = {key: meaning for key, _, _, meaning in config_keys(Holder)}
    assert meanings["part.share"] == "Of a kind.\nOnly with part.kind = 'mixed' or 'both'."
    assert meanings["part.free"] == "Of a number, or of a kind.\nOnly with part.cost above 0, or part.kind = 'both'."
    assert meanings["more.<name>.args"] == "Of a path.\nOnly with more.<name>.path."
    assert (other_than("x", "y").of("a"), at_least(2).of("a")) == ("a other than 'x' or 'y'", "a of 2 or more")


def test_sections_are_laid_over_each_other_and_values_replaced() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merge_keys(base, {"a": {"c": {"f": 4}}, "e": {"g": 5}}) == {"a": {"b": 1, "c": {"d": 2, "f": 4}}, "e": {"g": 5}}
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_another_type_of_a_section_leaves_what_all_types_have() -> None:
    base = {"rule": {"type": "sharp", "threshold": 1, "seed": 2}, "deep": {"rule": {"type": "sharp", "threshold": 1}}}
    top = {"rule": {"type": "plain"}, "deep": {"rule": {"type": "plain"}}}
    assert without_other_types(base, top, {"rule": {"seed", "rate"}}) == {"rule": {"seed": 2}, "deep": {"rule": {}}}
    assert without_other_types(base, {"rule": {"type": "sharp"}, "deep": {}}) == base


def test_the_value_of_a_dotted_key() -> None:
    assert value_at(Holder(part=Mixed(cost=2.0)), "part.cost") == 2.0
    assert value_at(AgentConfig(), "tools.python.mode") is None
