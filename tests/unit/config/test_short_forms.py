"""One value where a section has one obvious key, or where a list of one is meant."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from arpo.cli.kinds import KINDS, config_class
from arpo.config import Config, dump_config, load_config, parse_config, with_long_forms
from arpo.config.base import sections, type_of
from arpo.errors import ConfigError
from arpo.lab.study.config import StudyConfig
from arpo.training.config import RlRun, SftRun

BASE = {"out": "o", "model": {"path": "m"}, "tasks": "t", "agent": {"tools": {"python": {}}}}

PAIRS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model": "a/b"}, {"model": {"path": "a/b"}}),
    ({"tracking": {"sinks": "wandb"}}, {"tracking": {"sinks": ["wandb"]}}),
    ({"tracking": "wandb"}, {"tracking": {"sinks": ["wandb"]}}),
    ({"algorithm": "dr_grpo", "loss": "reinforce"}, {"algorithm": "dr_grpo", "loss": {"type": "reinforce"}}),
    ({"advantage": "gigpo"}, {"advantage": {"type": "gigpo"}}),
    ({"rollout": {"rule": "none"}}, {"rollout": {"rule": {"type": "none"}}}),
    ({"loss": {"kl": 0.04}}, {"loss": {"kl": {"coefficient": 0.04}}}),
    ({"validation": "v.jsonl"}, {"validation": {"tasks": "v.jsonl"}}),
    ({"reward": "composite", "overlong": {}}, {"reward": {"rule": "composite"}}),
    (
        {"reward": {"rule": "composite", "composite": "math"}},
        {"reward": {"rule": "composite", "composite": {"grader": "math"}}},
    ),
    ({"model": {"path": "m", "lora": 8}}, {"model": {"path": "m", "lora": {"rank": 8}}}),
    ({"model": {"path": "m", "lora": {"targets": "q"}}}, {"model": {"path": "m", "lora": {"targets": ["q"]}}}),
    ({"dynamic_sampling": 2}, {"dynamic_sampling": {"max_rounds": 2}}),
    ({"task_filter": 3}, {"task_filter": {"after": 3}}),
    (
        {"agent": {"protocol": "hermes", "tools": {"python": {"preload": "numpy"}, "search": "idx", "cache": "c.sqlite"}}},
        {
            "agent": {
                "protocol": {"type": "hermes"},
                "tools": {
                    "python": {"preload": ["numpy"]}, "cache": {"path": "c.sqlite"},
                    "search": {"type": "local", "index": "idx"},
                },
            }
        },
    ),
    ({"agent": {"protocol": {"tools": "python"}}}, {"agent": {"protocol": {"tools": ["python"]}}}),
    ({"agent": {"tools": {"mcp": {"files": "serve"}}}}, {"agent": {"tools": {"mcp": {"files": {"command": "serve"}}}}}),
    ({"rollout": {"rule": {"type": "random", "rate": 0.3}}}, {"rollout": {"rule": {"type": "random", "rate": 0.3}}}),
]  # fmt: skip


@pytest.mark.parametrize(("short", "long"), PAIRS)
def test_short_and_long_are_the_same_run_in_files_and_in_python(short: dict[str, Any], long: dict[str, Any]) -> None:
    def read(keys: dict[str, Any]) -> Any:
        try:
            return dump_config(parse_config(RlRun, BASE | keys, "t"))
        except ConfigError as error:
            return str(error)

    assert read(short) == read(long)
    if "t:" not in read(long):
        run = RlRun.model_validate(BASE | short)
        assert run == RlRun.model_validate(BASE | long)
        assert parse_config(RlRun, tomllib.loads(dump_config(run)), "dump") == run


def test_on_the_command_line_a_short_form_sets_its_key_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "rl.toml").write_text(
        'out = "o"\ntasks = "t"\nalgorithm = "grpo"\n[model]\npath = "old"\ndtype = "bfloat16"\n[agent.tools.python]\n'
        '[loss.kl]\ncoefficient = 0.1\nestimator = "k2"\n'
    )
    run = load_config(RlRun, tmp_path / "rl.toml", ["model=new", "loss.kl=0.2", "tracking=wandb"])
    assert (str(run.model.path), run.model.dtype) == ("new", "bfloat16")
    assert (run.loss.kl.coefficient, run.loss.kl.estimator, run.tracking.sinks) == (0.2, "k2", ("wandb",))
    (tmp_path / "short.toml").write_text('out = "o"\ndata = "d"\nmodel = "old"\n')
    sft = load_config(SftRun, tmp_path / "short.toml", ["model.dtype=bfloat16", "model.lora=4", "model.lora.alpha=8"])
    assert (str(sft.model.path), sft.model.dtype, sft.model.lora and sft.model.lora.rank) == ("old", "bfloat16", 4)
    replaced = load_config(SftRun, tmp_path / "short.toml", ["model.dtype=bfloat16", 'model={path="x"}'])
    assert (str(replaced.model.path), replaced.model.dtype) == ("x", "float32")


def test_every_short_form_is_a_key_of_its_section_and_every_union_is_chosen_by_name() -> None:
    """Whatever section of whatever command: a value is its obvious key."""
    open_, seen = [config_class(kind) for kind in KINDS], set[type[Config]]()
    num_short = 0
    while open_:
        cls = open_.pop()
        if cls in seen:
            continue
        seen.add(cls)
        for name, field in cls.model_fields.items():
            classes = sections(field.annotation)
            open_ += classes
            for section in classes:
                assert section.short_for is None or section.short_for in section.model_fields
                type_ = type_of(section)
                if len(classes) > 1:
                    assert with_long_forms(cls, {name: type_}) == {name: {"type": type_}}
                elif section.short_for is not None:
                    num_short += 1
                    assert list(with_long_forms(cls, {name: "x"})[name]) == [section.short_for]
    assert num_short >= 8


def test_what_is_given_is_not_changed_and_other_values_stay() -> None:
    given = {"model": "a", "tracking": {"sinks": "wandb"}, "unknown": "x", "validation": None, "batching": "x"}
    copy = {**given, "tracking": {"sinks": "wandb"}}
    long = with_long_forms(RlRun, given)
    assert given == copy
    assert (long["unknown"], long["validation"], long["batching"]) == ("x", None, "x")


def test_a_study_knows_short_forms_too_and_refuses_reserved_keys_in_them() -> None:
    study = {"runs": [[0, 0]], "num_steps": 5, "budget_arm": "a", "arms": {"a": {"about": "x", "algorithm": "grpo"}}}
    assert parse_config(StudyConfig, study | {"rl": {"loss": "gspo"}}, "t").rl == {"loss": {"type": "gspo"}}
    with pytest.raises(ConfigError, match=r"test\.model\.path is not for this section"):
        parse_config(StudyConfig, study | {"test": {"model": "x"}}, "t")
    with pytest.raises(ConfigError, match=r"rl\.agent\.tools\.cache\.path is not for this section"):
        parse_config(StudyConfig, study | {"rl": {"agent": {"tools": {"cache": "x"}}}}, "t")
