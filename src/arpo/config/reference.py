"""The keys of a configuration as a page has them: its sections in order, each written once, its types under headings."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from arpo.conditions import OnlyWith, shown
from arpo.config.base import Config, obvious_key, sections, type_of
from arpo.config.keys import dotted, type_name

Classes = tuple[type[Config], ...]
"""The classes of a section: several where it has types."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section."""

    name: str
    """Its name in the section; `NAME.<name>` for sections that users name."""
    field: FieldInfo
    """Its declaration."""
    classes: Classes
    """The classes of the section that it is; empty for a value."""

    @property
    def type(self) -> str:
        """Type of its value; empty for a section."""
        return "" if self.classes else type_name(self.field.annotation)

    @property
    def default(self) -> str:
        """Its default; of a section the keys in which it differs from the section's own, empty where there are none."""
        value: Any = self.field.get_default(call_default_factory=True)
        if self.field.is_required():
            own = [cls.model_fields[cls.short_for].is_required() for cls in self.classes if cls.short_for is not None]
            return "(required)" if not self.classes or any(own) else "(a section is required)"
        if isinstance(value, Config):
            keys = dotted(value.keys_set())
            kind = [str(keys.pop("type"))] if len(self.classes) > 1 else []
            return ", ".join([*kind, *(f"{name} = {shown(v)}" for name, v in keys.items() if name != "type")])
        return "none" if value is None else "" if self.classes else str(value)

    def meaning(self, prefix: str = "") -> str:
        """What it means, and the keys that it depends on, each after `prefix`."""
        needs = [f"Only with {m.words(prefix)}." for m in self.field.metadata if isinstance(m, OnlyWith)]
        return "\n".join([self.field.description or "", *needs])


@dataclass(frozen=True, slots=True)
class Group:
    """Keys that certain types of a section have."""

    types: tuple[str, ...]
    """The types; empty: all, or the section has one."""
    about: str
    """What the type is, where it is a single one; else empty."""
    keys: tuple[Key, ...]
    """May be empty for a single type."""


@dataclass(slots=True)
class Section:
    """A section, where it first comes."""

    place: str
    """Dotted; empty for a whole configuration."""
    classes: Classes
    """Its classes."""
    also: list[str] = field(default_factory=list[str])
    """Other places of the same classes."""

    @property
    def about(self) -> str:
        """What it is; empty where it has several types."""
        return _about(self.classes[0]) if len(self.classes) == 1 else ""

    @property
    def short_key(self) -> str | None:
        """The key that a value in its place sets; None: there is none."""
        return obvious_key(self.classes, type_of(self.classes[0])) if self.place else None

    @property
    def groups(self) -> Iterator[Group]:
        """Its keys: those of all types first, then those that some share, then each type with its own."""
        types = [type_of(cls) or "" for cls in self.classes]
        holders: dict[tuple[str, str], tuple[Key, list[str]]] = {}
        for cls, type_ in zip(self.classes, types, strict=True):
            for key in _keys(cls):
                if key.name != "type":
                    identity = (key.name, f"{key.type} {key.default} {key.meaning()}")
                    holders.setdefault(identity, (key, []))[1].append(type_)
        by_types: dict[tuple[str, ...], list[Key]] = {}
        for key, of in holders.values():
            by_types.setdefault(tuple(of), []).append(key)
        if shared := by_types.pop(tuple(types), None):
            yield Group((), "", tuple(shared))
        for some in sorted((t for t in by_types if len(t) > 1), key=lambda t: (-len(t), t)):
            yield Group(some, "", tuple(by_types[some]))
        for cls, type_ in zip(self.classes, types, strict=True) if len(types) > 1 else ():
            yield Group((type_,), _about(cls), tuple(by_types.get((type_,), ())))


def _about(cls: type[Config]) -> str:
    return (cls.__doc__ or "").strip()


def _keys(cls: type[Config]) -> Iterator[Key]:
    for name, info in cls.model_fields.items():
        is_named = get_origin(info.annotation) is dict
        classes = tuple(sections(get_args(info.annotation)[1] if is_named else info.annotation))
        yield Key(f"{name}.<name>" if is_named and classes else name, info, classes)


def all_sections(cls: type[Config], seen: dict[Classes, Section]) -> Iterator[Section]:
    """The sections below `cls` that are not in `seen`, itself first; `seen` gets them, and the places of the others."""
    yield from _walk((cls,), "", seen)


def _walk(classes: Classes, place: str, seen: dict[Classes, Section]) -> Iterator[Section]:
    if classes in seen:
        seen[classes].also.append(place)
        return
    section = seen[classes] = Section(place, classes)
    yield section
    below = dict[tuple[str, Classes], None]()
    for group in section.groups:
        below |= {(key.name, key.classes): None for key in group.keys if key.classes}
    for name, inner in below:
        yield from _walk(inner, f"{place}.{name}" if place else name, seen)
