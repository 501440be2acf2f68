"""Conditions on configuration keys under which another key has an effect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a value."""

    words: str
    """Text after the key in a sentence, e.g. "= 'adaptive'" or "above 0"; empty: the key must be set."""
    holds: Callable[[Any], bool]
    """Whether a value meets it."""

    def of(self, key: str) -> str:
        """The condition on a key, in words: `loss.kl.coefficient above 0`."""
        return f"{key} {self.words}".rstrip()


def one_of(*values: object) -> Condition:
    """The value is one of `values`."""
    return Condition("= " + " or ".join(map(repr, values)), lambda value: value in values)


def other_than(*values: object) -> Condition:
    """The value is none of `values`."""
    return Condition("other than " + " or ".join(map(repr, values)), lambda value: value not in values)


def above(bound: float) -> Condition:
    """The number is larger than `bound`."""
    return Condition(f"above {bound}", lambda value: value > bound)


def holding(*members: object) -> Condition:
    """The list has one of `members`."""
    return Condition("with " + " or ".join(map(repr, members)) + " in it", lambda value: bool({*members} & {*value}))


def at_least(number: int) -> Condition:
    """The list has `number` members or more."""
    return Condition(f"of {number} or more", lambda value: len(value) >= number)


IS_SET = Condition("", lambda value: value is not None)
"""The value is not None."""


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """Metadata of a field that has an effect only where one of these conditions on other keys of its section holds."""

    conditions: Mapping[str, Condition]
    """Key of the same section -> condition on its value."""

    def holds(self, section: object) -> bool:
        """Whether the field has an effect in this section."""
        return any(condition.holds(getattr(section, key)) for key, condition in self.conditions.items())

    def words(self, prefix: str) -> str:
        """The conditions, in words; `prefix` precedes each key, e.g. `loss.kl.`."""
        return ", or ".join(condition.of(prefix + key) for key, condition in self.conditions.items())

    def refusal(self, name: str, section: object, default: object, prefix: str = "") -> str:
        """The error of a field without effect: key, value, reason and remedy."""
        value = getattr(section, name)
        received = f" = {shown(value)}" if isinstance(value, str | int | float | Path) else ""
        why = " and ".join(f"{prefix}{key} = {shown(getattr(section, key))}" for key in self.conditions)
        leave = "leave it out" if default in (None, (), {}) else f"leave it at {shown(default)}"
        return f"{prefix}{name}{received} has no effect with {why}; {leave} or set {self.words(prefix)}"


def only_with(**conditions: object) -> OnlyWith:
    """Metadata of a field: the conditions under which it has an effect. A plain value or a tuple means `one_of`.

    Example:
        mix: Annotated[float, only_with(attribution="mixed")] = 0.5
    """

    def read(condition: object) -> Condition:
        if isinstance(condition, Condition):
            return condition
        return one_of(*cast(tuple[object, ...], condition)) if isinstance(condition, tuple) else one_of(condition)

    return OnlyWith({key: read(condition) for key, condition in conditions.items()})


def shown(value: object) -> str:
    """A value as errors show it: as TOML writes it, the end of a long one cut."""
    text = _as_toml(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


_MOST_SHOWN = 200
"""Characters of a value."""


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_as_toml, cast(list[object], value)))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_as_toml(below)}' for key, below in cast(dict[str, object], value).items())}}}"
    return repr(value) if value is None or isinstance(value, int | float) else repr(str(value))
