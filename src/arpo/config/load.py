"""Reads and writes configurations: TOML files plus dotted overrides."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import tomli_w
from pydantic import ValidationError

from arpo.config.base import Config, as_section, dependent_keys, merge_keys, with_long_forms
from arpo.config.errors import explain
from arpo.config.functions import functions_within
from arpo.errors import ConfigError
from arpo.types import StrPath

C = TypeVar("C", bound=Config)


def load_config(cls: type[C], path: StrPath | None, overrides: Sequence[str] = ()) -> C:
    """A validated configuration from a TOML file and `key.sub=value` overrides.

    A value is TOML, else a plain string: `--seed=3`, `--rollout.rule.type=arpo`, `--tools='["search"]'`. With `path` None
    there are defaults and overrides alone. The files of functions of one's own are relative to the folder of `path`, in
    overrides to the working directory.

    Raises:
        ConfigError: the file is missing or no TOML; an override has no `=`; a key is unknown (the message has the nearest
            one, or ours where it is one of TRL or verl), a value out of range, or a combination contradictory.

    Example:
        load_config(RlRun, "rl.toml", ["rollout.group_size=8"]).rollout.group_size  # -> 8
    """
    data: dict[str, Any] = {}
    if path is not None:
        data = functions_within(cls, with_long_forms(cls, read_toml(Path(path))), Path(path).parent)
    for override in overrides:
        data = _apply_override(cls, data, override)
    return parse_config(cls, data, source=str(path) if path else "command line")


def parse_config(cls: type[C], data: Mapping[str, Any], source: str) -> C:
    """The configuration of `data`; errors name `source`.

    Raises:
        ConfigError: as `load_config`.
    """
    given = with_long_forms(cls, data)
    try:
        return cls.model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {line}" for line in explain(cls, error, given))) from None


def dump_config(config: Config) -> str:
    """The configuration as TOML, with the values in force; read again it is the same configuration.

    Keys without effect are not printed, nor keys whose value is None, as TOML has no null.
    """
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True, exclude=_without_effect(config)))


def _without_effect(config: Config) -> dict[str, Any]:
    """The keys without effect, nested, as pydantic's `exclude`."""
    excluded: dict[str, Any] = {n: True for n, needs in dependent_keys(type(config)).items() if not needs.holds(config)}
    for name, value in config:
        named = {key: _without_effect(s) for key, s in (as_section(value) or {}).items() if isinstance(s, Config)}
        below = _without_effect(value) if isinstance(value, Config) else {key: keys for key, keys in named.items() if keys}
        if below:
            excluded.setdefault(name, below)
    return excluded


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file.

    Raises:
        ConfigError: the file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this configuration ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _apply_override(cls: type[Config], data: dict[str, Any], override: str) -> dict[str, Any]:
    """`data` with one override on top: a table replaces its section, a short form sets its key alone."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: write it as --section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *outer, last = key.split(".")
    node = data
    for section in outer:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
        node = cast(dict[str, Any], child)
    if isinstance(value, dict):
        node.pop(last, None)
    keys: dict[str, Any] = {last: value}
    for section in reversed(outer):
        keys = {section: keys}
    return merge_keys(data, with_long_forms(cls, keys))
