"""The functions of one's own that a configuration names."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from arpo.config.base import Config, sections
from arpo.function_name import FunctionKey, FunctionName

C = TypeVar("C", bound=Config)


def functions_within(cls: type[Config], data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`data`, the keys of a `cls`, with each function's file relative to `folder` made absolute."""

    def located(name: FunctionName) -> FunctionName:
        return name.within(folder)

    result = dict(data)
    for name, value in data.items():
        field = cls.model_fields.get(name)
        if field is None:
            continue
        for key in (m for m in field.metadata if isinstance(m, FunctionKey)):
            result[name] = key.map(value, located)
        for section in sections(field.annotation) if isinstance(value, dict) else ():
            result[name] = functions_within(section, result[name], folder)
    return result


def map_functions(config: C, change: Callable[[str, FunctionName], FunctionName], prefix: str = "") -> C:
    """The configuration with `change(dotted key, name)` applied to each function that it names."""
    updates: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value, key = getattr(config, name), f"{prefix}{name}"
        if isinstance(value, Config):
            updates[name] = map_functions(value, change, f"{key}.")
        for marker in (m for m in field.metadata if isinstance(m, FunctionKey)):
            if isinstance(value, dict):
                texts = cast(dict[str, str], value)
                updates[name] = {n: marker.map(text, partial(change, f"{key}.{n}")) for n, text in texts.items()}
            else:
                updates[name] = marker.map(value, partial(change, key))
    changed = {name: value for name, value in updates.items() if value != getattr(config, name)}
    return config.model_copy(update=changed) if changed else config


def function_names(config: Config) -> dict[str, FunctionName]:
    """The functions of one's own that a configuration names, by dotted key."""
    found: dict[str, FunctionName] = {}

    def note(key: str, name: FunctionName) -> FunctionName:
        found[key] = name
        return name

    map_functions(config, note)
    return found
