"""The base of every configuration class."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Self, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from arpo.conditions import OnlyWith

SECRET = object()
"""Metadata of a field whose value may be secret: no message repeats it."""
SECRET_ERROR = "secret"
"""Type of the `PydanticCustomError` of a validator whose value may be secret: no message repeats the value."""
NO_EFFECT = "no_effect"
"""Type of the error of a key whose condition does not hold."""


class Config(BaseModel):
    """Immutable section of a configuration; an unknown key is an error.

    The default of a field may be a section with other defaults: `optimizer: OptimizerConfig =
    OptimizerConfig(schedule="cosine")`. They hold for every key that a user does not set, also when other keys of the section
    are set, unless the `type` differs.

    A field that depends on other keys of its section declares it: `Annotated[float, only_with(attribution="mixed")]`. Without
    these values, another value than its default is an error, and the key is not printed.

    A value may stand for a section with one obvious key (`short_for`), and one value for a list of one; see `with_long_forms`.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    short_for: ClassVar[str | None] = None
    """The key that a value in place of the section sets, e.g. `path`: `model = "x"` is short for `model.path = "x"`. None: a
    value is an error."""

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults_of_sections(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = with_long_forms(cls, cast(dict[str, Any], data))
        defaults = {n: f.default.keys_set() for n, f in cls.model_fields.items() if isinstance(f.default, Config)}
        of_sections = {name: keys for name, keys in defaults.items() if isinstance(given.get(name), dict)}
        return merge_keys(without_other_types(of_sections, given), given)

    @model_validator(mode="after")
    def _refuse_keys_without_effect(self) -> Self:
        for name, needs in dependent_keys(type(self)).items():
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != default and not needs.holds(self):
                refuse = partial(needs.refusal, name, self, default)
                raise PydanticCustomError(NO_EFFECT, "{text}", {"text": refuse(), "refuse": refuse})
        return self

    def keys_set(self) -> dict[str, Any]:
        """The keys that were set, nested as in TOML, with the `type` of each section that has one."""
        names = [name for name in type(self).model_fields if name in self.model_fields_set or name == "type"]
        values = {name: getattr(self, name) for name in names}
        return {name: value.keys_set() if isinstance(value, Config) else value for name, value in values.items()}


def with_long_forms(cls: type[Config], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section with every short form written out, in the sections below it too; `given` is not changed.

    A value in place of a section sets the section's obvious key: `type` where it names one, `short_for` of its (first) class,
    or the only key it has. A single value in place of a list is a list of one, unless the key also takes a plain value.

    Example: {"model": "a", "tracking": {"sinks": "wandb"}} -> {"model": {"path": "a"}, "tracking": {"sinks": ["wandb"]}}
    """
    return _written_out([cls], given)


def _written_out(classes: Sequence[type[Config]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section that may have these classes."""
    fields = {name: field for cls in reversed(classes) for name, field in cls.model_fields.items()}
    return {name: _long_form(fields[name].annotation, value) if name in fields else value for name, value in given.items()}


def _long_form(annotation: object, value: Any) -> Any:
    classes = sections(annotation)
    if classes:
        key = obvious_key(classes, value)
        value = {key: value} if key is not None and isinstance(value, str | int | float | Path) else value
        section = as_section(value)
        if section is None:
            return value
        chosen = [c for c in classes if type_of(c) == section.get("type", type_of(c))]
        return _written_out(chosen, section)
    named = as_section(value)
    if named is not None and get_origin(annotation) is dict:
        return {name: _long_form(get_args(annotation)[1], below) for name, below in named.items()}
    return [value] if isinstance(value, str | int | float | Path) and _takes_only_lists(annotation) else value


def obvious_key(classes: Sequence[type[Config]], value: object) -> str | None:
    """The key that a value in place of the section sets; None: there is none that is obvious."""
    if any(value == type_of(cls) is not None for cls in classes):
        return "type"
    fields = classes[0].model_fields
    return classes[0].short_for or ("type" if len(classes) > 1 else next(iter(fields)) if len(fields) == 1 else None)


def _takes_only_lists(annotation: object) -> bool:
    parts = [part for part in union_parts(annotation) if part is not NoneType]
    return bool(parts) and all(
        get_origin(part) is list or (get_origin(part) is tuple and get_args(part)[-1] is ...) for part in parts
    )


def merge_keys(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` overridden by `top`, section by section, both nested as in TOML; neither is changed.

    Example: merge_keys({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) -> {"a": {"b": 1, "c": 3}}
    """
    merged = dict(base)
    for key, value in top.items():
        section, below = as_section(value), as_section(merged.get(key))
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
        section, above = as_section(value), as_section(top.get(key))
        if section is None or above is None:
            remaining[key] = value
        elif above.get("type", section.get("type")) == section.get("type"):
            remaining[key] = without_other_types(section, above)
        else:
            remaining[key] = {name: section[name] for name in (common or {}).get(key, ()) if name in section}
    return remaining


def as_section(value: object) -> dict[str, Any] | None:
    """The value if it is a section, nested as in TOML, else None."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def dependent_keys(cls: type[Config]) -> dict[str, OnlyWith]:
    """The fields that have an effect under a condition only, and the condition."""
    return {n: m for n, field in cls.model_fields.items() for m in field.metadata if isinstance(m, OnlyWith)}


def sections(annotation: object) -> list[type[Config]]:
    """The Config classes of an annotation: one for a section, several for a union, none for a plain value."""
    return [part for part in union_parts(annotation) if isinstance(part, type) and issubclass(part, Config)]


def type_of(cls: type[Config]) -> str | None:
    """The `type` of a section's class; None: its section has one type."""
    return cls.model_fields["type"].default if "type" in cls.model_fields else None


def union_parts(annotation: object) -> Iterator[object]:
    """The members of a union, `Annotated` taken off; an annotation that is no union is its own member."""
    if get_origin(annotation) is Annotated:
        yield from union_parts(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from union_parts(part)
    else:
        yield annotation
