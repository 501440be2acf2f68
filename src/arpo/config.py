"""The base of every configuration class, and the loader: TOML files plus dotted overrides.

A configuration class is in the package that it configures; configurations of whole runs are composed at the top. The string
under each field documents its key; `arpo config docs` prints it.
"""

import difflib
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Self, TypeVar, Union, cast, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from arpo.conditions import OnlyWith
from arpo.errors import ConfigError


class Config(BaseModel):
    """Immutable section of a configuration; an unknown key is an error.

    The default of a field may be a section with other defaults: `optimizer: OptimizerConfig =
    OptimizerConfig(schedule="cosine")`. They hold for every key that a user does not set, also when other keys of the section
    are set, unless the `type` differs.

    A field that depends on other keys of its section declares it: `Annotated[float, only_with(attribution="mixed")]`. Without
    these values, another value than its default is an error, and the key is not printed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults_of_sections(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast(dict[str, Any], data)
        defaults = {n: f.default.keys_set() for n, f in cls.model_fields.items() if isinstance(f.default, Config)}
        sections = {name: keys for name, keys in defaults.items() if isinstance(given.get(name), dict)}
        return merge_keys(without_other_types(sections, given), given)

    @model_validator(mode="after")
    def _refuse_keys_without_effect(self) -> Self:
        for name, needs in _dependent_keys(type(self)).items():
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != default and not needs.holds(self):
                refuse = partial(needs.refusal, name, self, default)
                raise PydanticCustomError(_NO_EFFECT, "{text}", {"text": refuse(), "refuse": refuse})
        return self

    def keys_set(self) -> dict[str, Any]:
        """The keys that were set, nested as in TOML, with the `type` of each section that has one."""
        names = self.model_fields_set | (type(self).model_fields.keys() & {"type"})
        values = {name: getattr(self, name) for name in names}
        return {name: value.keys_set() if isinstance(value, Config) else value for name, value in values.items()}


def merge_keys(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` overridden by `top`, section by section, both nested as in TOML; neither is changed.

    Example: merge_keys({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) -> {"a": {"b": 1, "c": 3}}
    """
    merged = dict(base)
    for key, value in top.items():
        section, below = _as_section(value), _as_section(merged.get(key))
        merged[key] = value if section is None or below is None else merge_keys(below, section)
    return merged


def without_other_types(
    base: Mapping[str, Any], top: Mapping[str, Any], common: Mapping[str, Collection[str]] | None = None
) -> dict[str, Any]:
    """`base` without the keys of sections for which `top` chooses another `type`.

    Args:
        base: Nested as in TOML.
        top: Overrides it.
        common: Section -> keys of all its types, which stay.
    """
    remaining: dict[str, Any] = {}
    for key, value in base.items():
        section, above = _as_section(value), _as_section(top.get(key))
        if section is None or above is None:
            remaining[key] = value
        elif above.get("type", section.get("type")) == section.get("type"):
            remaining[key] = without_other_types(section, above)
        else:
            remaining[key] = {name: section[name] for name in (common or {}).get(key, ()) if name in section}
    return remaining


def _as_section(value: object) -> dict[str, Any] | None:
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


SECRET_ERROR = "secret"
"""Type of the `PydanticCustomError` of a validator whose value may be secret: no message repeats the value."""

_NO_EFFECT = "no_effect"
"""Type of the error of a key whose condition does not hold."""

C = TypeVar("C", bound=Config)


def load_config(cls: type[C], path: Path | None, overrides: Sequence[str] = ()) -> C:
    """A validated configuration from a TOML file and `key.sub=value` overrides.

    A value is TOML, else a plain string: `--seed=3`, `--rollout.rule.type=arpo`, `--tools='["search"]'`. With `path` None
    there are defaults and overrides alone.

    Raises:
        ConfigError: the file is missing or no TOML; an override has no `=`; a key is unknown (the message has the nearest
            one), a value out of range, or a combination contradictory.

    Example:
        load_config(RlRun, Path("rl.toml"), ["rollout.group_size=8"]).rollout.group_size  # -> 8
    """
    data = read_toml(path) if path is not None else {}
    for override in overrides:
        _apply_override(data, override)
    return parse_config(cls, data, source=str(path) if path else "command line")


def parse_config(cls: type[C], data: Mapping[str, Any], source: str) -> C:
    """The configuration of `data`; errors name `source`.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_explain(cls, dict(e))}" for e in error.errors())) from None


def dump_config(config: Config) -> str:
    """The configuration as TOML, with the values in force; read again it is the same configuration.

    Keys without effect are not printed, nor keys whose value is None, as TOML has no null.
    """
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True, exclude=_without_effect(config)))


def _without_effect(config: Config) -> dict[str, Any]:
    """The keys without effect, nested, as pydantic's `exclude`."""
    excluded: dict[str, Any] = {n: True for n, needs in _dependent_keys(type(config)).items() if not needs.holds(config)}
    for name, value in config:
        named = {key: _without_effect(s) for key, s in (_as_section(value) or {}).items() if isinstance(s, Config)}
        below = _without_effect(value) if isinstance(value, Config) else {key: keys for key, keys in named.items() if keys}
        if below:
            excluded.setdefault(name, below)
    return excluded


def _dependent_keys(cls: type[Config]) -> dict[str, OnlyWith]:
    return {n: m for n, field in cls.model_fields.items() for m in field.metadata if isinstance(m, OnlyWith)}


def config_keys(cls: type[Config], prefix: str = "", defaults: Config | None = None) -> Iterator[tuple[str, str, object, str]]:
    """Yield (dotted key, type, default, meaning) of every leaf key below `cls`, in declaration order.

    `defaults`: a section whose values are the defaults; None: those of `cls`.
    """
    for name, field in cls.model_fields.items():
        default = "(required)" if field.is_required() else field.get_default(call_default_factory=True)
        if defaults is not None:
            default = getattr(defaults, name)
        sections = _sections(field.annotation)
        if not sections:
            needs = [f"Only with {m.words(prefix)}." for m in field.metadata if isinstance(m, OnlyWith)]
            yield prefix + name, _type_name(field.annotation), default, "\n".join([field.description or "", *needs])
        for section in sections:
            yield from config_keys(section, f"{prefix}{name}.", default if isinstance(default, section) else None)
        if get_origin(field.annotation) is dict:
            for section in _sections(get_args(field.annotation)[1]):
                yield from config_keys(section, f"{prefix}{name}.<name>.")


def dotted(keys: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested sections by their dotted keys.

    Example: {"rollout": {"rule": {"type": "none"}}} -> {"rollout.rule.type": "none"}
    """
    values: dict[str, Any] = {}
    for key, value in keys.items():
        section = _as_section(value)
        values |= {prefix + key: value} if section is None else dotted(section, f"{prefix}{key}.")
    return values


def value_at(config: Config, key: str) -> Any:
    """The value of a dotted key; None where one of its sections is None.

    Example: value_at(run, "rollout.rule.type") -> "none"
    """
    value: Any = config
    for name in key.split("."):
        value = None if value is None else getattr(value, name)
    return value


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


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: write it as --section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.split(".")
    node = data
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
        node = cast(dict[str, Any], child)
    node[last] = value


def _explain(cls: type[Config], error: dict[str, Any]) -> str:
    location, chosen, types_with_key = _key_path(cls, [str(part) for part in error["loc"]])
    key = ".".join(location) or "(whole configuration)"
    if error["type"] == _NO_EFFECT:
        return error["ctx"]["refuse"](prefix="".join(f"{part}." for part in location))
    if error["type"] != "extra_forbidden":
        message = str(error["msg"]).removeprefix("Value error, ")
        is_shown = not isinstance(error["input"], dict) and error["type"] != SECRET_ERROR
        received = f" = {error['input']!r}" if is_shown else ""
        return f"{key}{received}: {message}"
    if types_with_key:
        section = ".".join([*location[:-1], "type"])
        types = " or ".join(map(repr, types_with_key))
        received = f" = {error['input']}" if isinstance(error["input"], int | float) else ""  # text may be secret
        return f"{key}{received} has no effect with {section} = {chosen!r}; leave it out or set {section} = {types}"
    known = [k for k, *_ in config_keys(cls)]
    names = {k.rsplit(".", n)[0] for k in known for n in range(1, k.count(".") + 1)}
    nearest = difflib.get_close_matches(key, [*known, *names], n=1, cutoff=0.4)
    if not nearest:
        nearest = [k for k in known if k.split(".")[-1] == location[-1]][:1]
    hint = f"did you mean {nearest[0]!r}?" if nearest else "see `arpo config docs` for every key"
    return f"{key}: unknown key; {hint}"


def _key_path(cls: type[Config], location: list[str]) -> tuple[list[str], str, list[str]]:
    """The location of an error as users write it: without the `type` of a section, which pydantic inserts.

    Returns:
        The location; the `type` of its section; and the other types with its last key, none for a section of one type.
    """
    sections, other_types, type_, types_with_key, path = [cls], list[type[Config]](), "", list[str](), list[str]()
    for part in location:
        typed = [s for s in sections if "type" in s.model_fields] if len(sections) > 1 else []
        chosen = [s for s in typed if s.model_fields["type"].default == part]
        if chosen:
            sections, other_types, type_ = chosen, [s for s in typed if s not in chosen], part
            continue
        path.append(part)
        types_with_key, other_types = [s.model_fields["type"].default for s in other_types if part in s.model_fields], []
        sections = [c for s in sections if part in s.model_fields for c in _sections(s.model_fields[part].annotation)]
    return path, type_, types_with_key


def _sections(annotation: object) -> list[type[Config]]:
    """The Config classes of an annotation: one for a section, several for a union, none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType):
        return [c for part in get_args(annotation) for c in _sections(part)]
    return []


def _type_name(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_name(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return " | ".join(_type_name(part) for part in get_args(annotation))
    if isinstance(origin, type) and origin in (dict, list, tuple):
        inner = ", ".join("..." if part is ... else _type_name(part) for part in get_args(annotation))
        return f"{origin.__name__}[{inner}]"
    if isinstance(annotation, type) and not get_args(annotation):
        return "None" if annotation is NoneType else annotation.__name__
    return str(annotation).replace("typing.", "").replace("pathlib._local.", "").replace("pathlib.", "")
