"""The keys of a configuration, by their dotted names, and what their values may be in words."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from arpo.conditions import OnlyWith
from arpo.config.base import Config, as_section, sections


def config_keys(cls: type[Config], prefix: str = "", defaults: Config | None = None) -> Iterator[tuple[str, str, object, str]]:
    """Yield (dotted key, type, default, meaning) of every leaf key below `cls`, in declaration order.

    `defaults`: a section whose values are the defaults; None: those of `cls`.
    """
    for name, field in cls.model_fields.items():
        default = "(required)" if field.is_required() else field.get_default(call_default_factory=True)
        if defaults is not None:
            default = getattr(defaults, name)
        classes = sections(field.annotation)
        if not classes:
            needs = [f"Only with {m.words(prefix)}." for m in field.metadata if isinstance(m, OnlyWith)]
            yield prefix + name, type_name(field.annotation), default, "\n".join([field.description or "", *needs])
        for section in classes:
            yield from config_keys(section, f"{prefix}{name}.", default if isinstance(default, section) else None)
        if get_origin(field.annotation) is dict:
            for section in sections(get_args(field.annotation)[1]):
                yield from config_keys(section, f"{prefix}{name}.<name>.")


def dotted(keys: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested sections by their dotted keys.

    Example: {"rollout": {"rule": {"type": "none"}}} -> {"rollout.rule.type": "none"}
    """
    values: dict[str, Any] = {}
    for key, value in keys.items():
        section = as_section(value)
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


def type_name(annotation: object) -> str:
    """A type as the documents show it: `tuple[str, ...] | None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_name(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation))
    if origin is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    if isinstance(origin, type) and origin in (dict, list, tuple):
        inner = ", ".join("..." if part is ... else type_name(part) for part in get_args(annotation))
        return f"{origin.__name__}[{inner}]"
    if isinstance(annotation, type) and not get_args(annotation):
        return "None" if annotation is NoneType else annotation.__name__
    return str(annotation).replace("typing.", "").replace("pathlib._local.", "").replace("pathlib.", "")


def allowed(annotation: object, metadata: Sequence[object] = ()) -> str:
    """What a key takes, in words: "a whole number of 1 or more", "'a' or 'b'".

    Args:
        annotation: The field's type, bounds inside it included.
        metadata: The field's own bounds.
    """
    origin, bounds = get_origin(annotation), list(_flat(metadata))
    if origin is Annotated:
        return allowed(get_args(annotation)[0], [*get_args(annotation)[1:], *bounds])
    if origin in (Union, UnionType):
        return either([allowed(part, bounds) for part in get_args(annotation) if part is not NoneType])
    if origin is Literal:
        return either([repr(value) for value in get_args(annotation)])
    if origin in (list, tuple):
        return _list_of(get_args(annotation), bounds)
    if origin is dict:
        return f"a table of names, each with {allowed(get_args(annotation)[1])}"
    if classes := sections(annotation):
        return f"a section with the keys {', '.join(classes[0].model_fields)}"
    if annotation is int or annotation is float:
        return ("a whole number" if annotation is int else "a number") + _range(bounds)
    pattern = next((p for b in bounds if (p := getattr(b, "pattern", None))), None)
    return _NAMES.get(cast(Any, annotation), "a value") + (f" that matches {pattern}" if pattern else "")


_NAMES = {bool: "true or false", str: "text", Path: "a path", date: "a date, such as 2024-07-26"}


def either(choices: Sequence[str]) -> str:
    """The choices as a sentence has them: `'a', 'b' or 'c'`."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _list_of(items: Sequence[object], bounds: Sequence[object]) -> str:
    if items[-1] is ...:
        items = items[:1]
    elif len(items) > 1:
        return f"a list of {len(items)} values: {', '.join(allowed(item) for item in items)}"
    least = next((b for bound in bounds if (b := getattr(bound, "min_length", None))), None)
    return f"a list{f' of {least} or more' if least else ''}, each of it {allowed(items[0])}"


def _flat(metadata: Sequence[object]) -> Iterator[object]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _range(bounds: Sequence[object]) -> str:
    def find(name: str) -> Any:
        return next((b for bound in bounds if (b := getattr(bound, name, None)) is not None), None)

    ge, gt, le, lt, multiple = (find(name) for name in ("ge", "gt", "le", "lt", "multiple_of"))
    if ge is not None and le is not None:
        words = f" from {ge} to {le}"
    else:
        low = f" of {ge} or more" if ge is not None else f" above {gt}" if gt is not None else ""
        high = f" of at most {le}" if le is not None else f" below {lt}" if lt is not None else ""
        words = " and".join(filter(None, [low, high]))
    return words + (f", a multiple of {multiple}" if multiple is not None else "")
