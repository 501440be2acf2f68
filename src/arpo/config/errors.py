"""Explains why a configuration is refused: the key, its value, what is allowed, what to do."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as make
from typing import Any, cast, get_args, get_origin

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from arpo.conditions import shown
from arpo.config.base import NO_EFFECT, SECRET, SECRET_ERROR, Config, as_section, sections, type_of
from arpo.config.keys import allowed, config_keys, dotted, either
from arpo.config.other_trainers import find_other_key


def explain(cls: type[Config], error: ValidationError, data: Mapping[str, Any]) -> list[str]:
    """One line for each faulty key of `data`, which `cls` refused with `error`; none has a word of the library's."""
    lines = dict[str, str]()
    for fault in error.errors():
        place = _find_place(cls, [str(part) for part in fault["loc"]])
        for key, line in _explain(cls, place, cast(dict[str, Any], fault), data):
            lines.setdefault(key, line)  # a union of plain values reports each of its members
    return list(lines.values())


@dataclass(slots=True)
class _Place:
    """Where an error is, as users write it."""

    path: list[str] = make(default_factory=list[str])
    """The key: without the `type` of a section and the positions in a list, which pydantic inserts."""
    field: FieldInfo | None = None
    """None: there is no such key, or the place is the whole configuration."""
    annotation: object = None
    """Type of the value."""
    type: str = ""
    """The `type` of its section; empty: its section has one type."""
    types_with_key: list[str] = make(default_factory=list[str])
    """Other types of its section that have the key."""

    is_inside: bool = False
    """Whether the fault is inside its value, e.g. at a position of a list."""

    @property
    def key(self) -> str:
        """Dotted; empty for the whole configuration."""
        return ".".join(self.path)

    @property
    def is_secret(self) -> bool:
        """Whether the value may be secret."""
        return self.field is not None and _is_marked(self.field.annotation, self.field.metadata)


def _is_marked(annotation: object, metadata: Sequence[object] = ()) -> bool:
    """Whether a type, or a part of it, is marked as secret."""
    inside, marks = get_args(annotation), [*metadata, *getattr(annotation, "__metadata__", ())]
    return SECRET in marks or any(_is_marked(part) for part in inside)


def _find_place(cls: type[Config], location: Sequence[str]) -> _Place:
    place, classes, others = _Place(), [cls], list[type[Config]]()
    parts = iter(location)
    for part in parts:
        chosen = [c for c in classes if len(classes) > 1 and type_of(c) == part]
        if chosen:
            classes, others, place.type = chosen, [c for c in classes if c not in chosen], part
            continue
        place.path.append(part)
        fields = [c.model_fields[part] for c in classes if part in c.model_fields]
        place.types_with_key = [type_of(c) or "" for c in others if part in c.model_fields]
        if not fields:
            place.field = None
            break
        place.field, place.annotation, others = fields[0], fields[0].annotation, []
        name = next(parts, None) if get_origin(place.annotation) is dict else None
        if name is not None:
            place.path.append(name)
            place.annotation = get_args(place.annotation)[1]
        classes = [c for f in fields for c in sections(place.annotation if name is not None else f.annotation)]
        if not classes:
            break
    place.is_inside = next(parts, None) is not None
    return place


def _explain(cls: type[Config], place: _Place, fault: dict[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, line) of one fault; an unknown section has one line for each key in it."""
    key, kind = place.key, fault["type"]
    if kind == NO_EFFECT:
        yield key, fault["ctx"]["refuse"](prefix=f"{key}." if key else "")
    elif kind == "extra_forbidden":
        yield from _unknown(cls, place, fault["input"])
    elif kind == "missing" and not place.is_inside:
        yield key, _missing(place)
    elif kind in ("value_error", SECRET_ERROR):
        message, value = str(fault["msg"]).removeprefix("Value error, "), fault["input"]
        is_hidden = kind == SECRET_ERROR or place.is_secret or as_section(value) is not None
        yield f"{key}: {message}", f"{key}{'' if is_hidden else f' = {shown(value)}'}: {message}" if key else message
    else:
        value = _value_of(data, place.path, fault["input"])
        foreign = _other_keys(cls, dotted(as_section(value) or {}, f"{key}."))
        yield from foreign.items() or [(key, _not_allowed(place, value))]


def _not_allowed(place: _Place, value: Any) -> str:
    """The line of a value of another type, or out of range."""
    classes, key = sections(place.annotation), place.key
    section = as_section(value)
    if section is not None and len(classes) > 1:
        key, value = f"{key}.type", section.get("type")
    received = "" if place.is_secret or value is None else f" = {shown(value)}"
    leave = "" if place.field is None or place.field.is_required() else ", or leave it out"
    if len(classes) == 1:
        keys = either([f"{key}.{name}" for name in classes[0].model_fields])
        return f"{key}{received}: this is a section; set its keys, {keys}{leave}"
    types = [repr(type_of(c)) for c in classes]
    words = either(types) if types else allowed(place.annotation, place.field.metadata if place.field else ())
    near = [] if place.is_secret else difflib.get_close_matches(repr(value), types or _choices(words), n=1)
    return f"{key}{received}: {f'did you mean {near[0]}? ' if near else ''}set it to {words}{leave}"


def _choices(words: str) -> list[str]:
    return [word for word in words.replace(" or ", ", ").split(", ") if word.startswith("'")]


def _missing(place: _Place) -> str:
    """The line of a required key: what to write."""
    *outer, name = place.path
    owner = sections(place.annotation)
    examples = place.field.examples if place.field is not None else None
    if owner and owner[0].short_for is not None:
        examples = owner[0].model_fields[owner[0].short_for].examples
    example: Any = (examples or ["..."])[0]
    line = tomli_w.dumps({name: example}).strip()
    if "\n" in line:
        line = f"{name} = {shown(example)}"
    if isinstance(example, dict):
        return f"{place.key} is missing; write e.g. {line}"
    where = f"below [{'.'.join(outer)}]" if outer else "at the top of the file"
    return f"{place.key} is missing; write e.g. {line} {where}, or --{place.key}={example}"


def _unknown(cls: type[Config], place: _Place, value: Any) -> Iterator[tuple[str, str]]:
    """The lines of a key that its section does not have."""
    key = place.key
    if place.types_with_key:
        section = ".".join([*place.path[:-1], "type"])
        types = " or ".join(map(repr, place.types_with_key))
        received = f" = {shown(value)}" if isinstance(value, int | float) else ""  # text may be secret
        yield key, f"{key}{received} has no effect with {section} = {place.type!r}; leave it out or set {section} = {types}"
        return
    row = find_other_key(key)
    is_whole = row is not None and row.covers(place.path[-1])
    leaves = dotted({} if is_whole else as_section(value) or {}, f"{key}.") or {key: value}
    foreign = _other_keys(cls, leaves)
    for leaf in leaves:
        yield leaf, foreign.get(leaf) or f"{leaf}: unknown key; {_nearest(cls, leaf)}"


def _nearest(cls: type[Config], key: str) -> str:
    """The key that may be meant: one of the same last part, else of a similar name."""
    known = list(dict.fromkeys(k for k, *_ in config_keys(cls)))
    names = {k.rsplit(".", n)[0] for k in known for n in range(1, k.count(".") + 1)}
    last = key.rsplit(".", 1)[-1]
    same = [k for k in known if k.rsplit(".", 1)[-1] == last]
    similar = difflib.get_close_matches(last, [k.rsplit(".", 1)[-1] for k in known], n=1, cutoff=0.8)
    nearest = (
        difflib.get_close_matches(key, same, n=1, cutoff=0.0)
        or difflib.get_close_matches(key, [*known, *names], n=1)
        or [k for k in known if k.rsplit(".", 1)[-1] in similar]
    )
    return f"did you mean {nearest[0]!r}?" if nearest else "leave it out, or see `arpo config docs` for every key"


def _other_keys(cls: type[Config], leaves: Mapping[str, Any]) -> dict[str, str]:
    """The lines of keys of other trainers, by key; a key of ours with that name in the same section goes first."""
    known = [k for k, *_ in config_keys(cls)]
    names = {".".join(k.split(".")[:n]) for k in known for n in range(1, k.count(".") + 2)}
    lines = dict[str, str]()
    for leaf in leaves:
        first, *_, last = leaf.split(".") if "." in leaf else ("", leaf)
        row = find_other_key(leaf)
        if row is None or any(k.startswith(f"{first}.") and k.endswith(f".{last}") for k in known):
            continue
        ours, note = [k for k in row.ours if k in names], f" ({row.note})" if row.note else ""
        if ours:
            lines[leaf] = f"{leaf} is a key of {row.trainer}; set {either(ours)} instead{note}"
        elif row.ours:
            lines[leaf] = (
                f"{leaf} is a key of {row.trainer} for {either(row.ours)}, which this command does not have; leave it out"
            )
        else:
            lines[leaf] = f"{leaf} is a key of {row.trainer} that arpo does not need; leave it out{note}"
    return lines


def _value_of(data: Mapping[str, Any], path: Sequence[str], otherwise: Any) -> Any:
    """The value that the user wrote at a key; `otherwise` where it was not written there."""
    value: Any = data
    for name in path:
        section = as_section(value)
        if section is None or name not in section:
            return otherwise
        value = section[name]
    return value
