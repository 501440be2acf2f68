"""Every message names the key, the value, what is allowed and what to do, and has no word of the library that checks."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from arpo.cli.kinds import KINDS, config_class
from arpo.clients.config import ChatConfig
from arpo.config import Config, parse_config
from arpo.config.base import sections, type_of
from arpo.errors import ConfigError
from arpo.tools.mcp.config import McpServerConfig
from arpo.training.config import RlRun

LIBRARY = re.compile(
    r"[Ii]nput|[Ff]ield required|Value error|Assertion|pydantic|Extra|"
    r"discriminator|expected tag|instance of|valid (?!ation)\w|NoneType|"
    r"should be|Unable|dictionary|parse|\bstring\b|integer|tuple\[|<class|\(whole"
)
"""Words of pydantic's own messages."""
REMEDY = re.compile(r"\b(set|leave|use|write|name|give|raise|lower|choose|did you mean|must be|keep|remove|add)\b")
WRONG: tuple[Any, ...] = (
    "no such thing", "", -7, 0, 10**12, 0.37, float("nan"), float("inf"), True, [], [[]], ["a", 3, None], {}, {"nowhere": 1},
    {"type": "nothing"}, {"type": 3}, date(2020, 1, 1), None, [{}],
)  # fmt: skip


def keys_of(cls: type[Config], given: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], FieldInfo, dict[str, Any]]]:
    """Every key below `cls`, sections included, with its field and the keys that choose the types of its sections."""
    for name, field in cls.model_fields.items():
        yield (name,), field, given
        classes = sections(field.annotation)
        named = get_origin(field.annotation) is dict
        for section in sections(get_args(field.annotation)[1]) if named else classes:
            chosen = {"type": type_of(section)} if type_of(section) else {}
            path = (name, "mine") if named else (name,)
            for below, inner, keys in keys_of(section, chosen):
                yield (*path, *below), inner, nested(path, keys)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value


def merged(base: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`base` with the value at the path."""
    first, *rest = path
    below = base.get(first)
    return base | {first: merged(below if isinstance(below, dict) else {}, tuple(rest), value) if rest else value}


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_any_key_is_answered_in_the_words_of_the_library(kind: str, every: int) -> None:
    """Each key of every command gets values above, a ninth or all; what is refused is refused by name, with a remedy."""
    cls, num_refused, seen = config_class(kind), 0, set[tuple[Any, ...]]()
    for path, field, given in keys_of(cls, {}):
        if path[-2:] in seen:
            continue  # the same section elsewhere
        seen.add((path[-2:], str(field.annotation)))
        for value in WRONG[len(seen) % every :: every]:
            with_missing = merged(given, path, value)
            try:
                parse_config(cls, with_missing, "here")
            except ConfigError as error:
                num_refused += 1
                for line in str(error).splitlines():
                    words = re.sub(r"'[^']*'|\[[^]]*\]|\{[^}]*\}", "", line.removeprefix("here: "))  # values and examples
                    assert not LIBRARY.search(words), line
                    assert REMEDY.search(line) or " is missing" in line or "no section" in line, line
    assert num_refused > 10


def required() -> list[tuple[str, type[Config], str]]:
    classes, open_ = set[type[Config]](), [config_class(kind) for kind in KINDS]
    while open_:
        cls = open_.pop()
        classes.add(cls)
        for field in cls.model_fields.values():
            inner = get_args(field.annotation)[1] if get_origin(field.annotation) is dict else field.annotation
            open_ += [c for c in sections(inner) if c not in classes]
    return [(c.__name__, c, n) for c in sorted(classes, key=str) for n, f in c.model_fields.items() if f.is_required()]


@pytest.mark.parametrize(("name", "cls", "key"), [pytest.param(*r, id=f"{r[0]}.{r[2]}") for r in required()])
def test_a_missing_key_is_answered_with_a_line_to_write(name: str, cls: type[Config], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(cls, {}, "here")
    line = next(line for line in str(error.value).splitlines() if line.startswith(f"here: {key} is missing"))
    assert "..." not in line
    assert re.search(rf"write .*(\b{key} = |\[{key}\.)", line), line


def test_what_the_line_says_to_write_is_enough() -> None:
    """The examples of a run's required keys together are a run."""
    example = {n: f.examples[0] for n, f in RlRun.model_fields.items() if f.is_required() and f.examples}
    assert parse_config(RlRun, example | {"model": "Qwen/Qwen3-0.6B"}, "here").model.path == Path("Qwen/Qwen3-0.6B")
    with pytest.raises(ConfigError) as error:
        parse_config(RlRun, {}, "here")
    assert 'model is missing; write e.g. model = "Qwen/Qwen3-0.6B" at the top of the file, or --model=' in str(error.value)
    assert "agent is missing; write e.g. [agent.tools.python]" in str(error.value)
    with pytest.raises(ConfigError) as error:
        parse_config(RlRun, {"model": {"dtype": "bfloat16"}}, "here")
    line = 'here: model.path is missing; write e.g. path = "Qwen/Qwen3-0.6B" below [model], or --model.path=Qwen/Qwen3-0.6B'
    assert line in str(error.value).splitlines()


BASE = {"out": "o", "model": "m", "tasks": "t", "agent": {"tools": {"python": {}}}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"rollout": {"group_size": 0}},
            "rollout.group_size = 0: set it to a whole number of 1 or more, or leave it out",
        ),
        ({"loss": {"clip_low": 1.5}}, "loss.clip_low = 1.5: set it to a number above 0 and below 1, or leave it out"),
        ({"seed": [1]}, "seed = [1]: set it to a whole number, or leave it out"),
        ({"optimizer": {"learning_rate": "fast"}},
         "optimizer.learning_rate = 'fast': set it to a number above 0, or leave it out"),
        (
            {"optimizer": {"schedule": "cosin"}},
            "optimizer.schedule = 'cosin': did you mean 'cosine'? set it to 'constant', 'linear' or 'cosine', or leave it out",
        ),
        (
            {"tracking": "wandbb"},
            "tracking.sinks = ['wandbb']: did you mean 'wandb'? set it to a list, each of it 'tensorboard', 'wandb' or "
            "'trackio', or leave it out",
        ),
        (
            {"optimizer": {"betas": [0.9]}},
            "optimizer.betas = [0.9]: set it to a list of 2 values: a number, a number, or leave it out",
        ),
        (
            {"engine": {"type": "vlm"}},
            "engine.type = 'vlm': did you mean 'vllm'? set it to 'transformers', 'vllm' or 'openai', or leave it out",
        ),
        ({"engine": "vlm"},
         "engine.type = 'vlm': did you mean 'vllm'? set it to 'transformers', 'vllm' or 'openai', or leave it out"),
        (
            {"batching": [1]},
            "batching = [1]: this is a section; set its keys, batching.packing or batching.max_tokens, or leave it out",
        ),
        (
            {"agent": {"tools": {"executor": {"timeouts_s": {"python": 0}}}}},
            "agent.tools.executor.timeouts_s.python = 0: set it to a number above 0, or leave it out",
        ),
        ({"model": 3}, "model.path = 3: set it to a path"),
    ],
)  # fmt: skip
def test_a_value_is_answered_with_what_is_allowed(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(RlRun, BASE | keys, "here")
    assert str(error.value) == f"here: {said}"


def test_a_value_of_several_kinds_is_answered_once() -> None:
    rule = {"rollout": {"rule": {"type": "threshold", "threshold": -1}}}
    with pytest.raises(
        ConfigError, match=r"^here: rollout\.rule\.threshold = -1: set it to a number above 0 or 'adaptive', or"
    ):
        parse_config(RlRun, BASE | rule, "here")


@pytest.mark.parametrize(
    ("cls", "key"), [(ChatConfig, "api_key_env"), (ChatConfig, "base_url"), (McpServerConfig, "env"), (McpServerConfig, "args")]
)
@pytest.mark.parametrize("value", ["sk-secret", ["sk-secret"], {"a": {"b": "sk-secret"}}, {"sk": ["sk-secret"]}])
def test_what_may_be_secret_is_never_repeated(cls: type[Config], key: str, value: Any) -> None:
    said = ""
    try:
        parse_config(cls, {"command": "x", key: value}, "here")
    except ConfigError as error:
        said = str(error)
    assert "sk-secret" not in said


def test_a_section_of_types_without_a_default_says_its_choices() -> None:
    class Red(Config):
        type: Literal["red"]
        depth: int = 1

    class Blue(Config):
        type: Literal["blue"]

    class Paint(Config):
        colour: Red | Blue

    with pytest.raises(ConfigError) as error:
        parse_config(Paint, {"colour": [1]}, "here")
    assert "here: colour" in str(error.value)
