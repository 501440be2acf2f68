"""What a resumed run may change: keys that cannot change its past. Torch-free."""

import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from arpo.conditions import shown
from arpo.config import Config, dotted, dump_config, merge_keys, parse_config, read_toml, value_at
from arpo.errors import ConfigError
from arpo.training.config import RlRun, SftRun

C = TypeVar("C", bound=Config)

_ANYWHERE = {
    "checkpoint": "",
    "tracking": "",
    "distributed": "",
    "num_threads": "sums may differ in their last bits",
    "model.device": "sums may differ in their last bits",
    "batching": "gradients stay, but for their last bits",
}

CHANGEABLE: Mapping[type[Config], Mapping[str, str]] = {
    RlRun: _ANYWHERE | {"rollouts_every": "", "num_steps": ""},
    SftRun: _ANYWHERE | {"num_epochs": "", "max_seconds": ""},
}
"""Class of a run -> the keys and sections that a resumed one may change, and what that does to its numbers, if anything."""

_LENGTHS = ("num_steps", "num_epochs", "max_seconds")
"""Keys that a schedule without a step of its own ends by."""
_SETTLED = ("model.revision", "model.device", "loss.kl.reference_revision")
"""Keys that a run settles at its start where they are left out: it goes on with what it took."""


def may_change(cls: type[Config], key: str) -> bool:
    """Whether a resumed run may change a dotted key."""
    return any(key == name or key.startswith(f"{name}.") for name in CHANGEABLE.get(cls, {}))


def changeable_words(cls: type[Config]) -> str:
    """The keys that a resumed run may change, for messages; empty: none."""
    names = CHANGEABLE.get(cls, {})
    return f", but for {', '.join(names)}" if names else ""


def go_on(config: C, report: Callable[[str], None]) -> C:
    """The configuration with which the run in `config.out` goes on: `config`, with what the run settled at its start.

    Args:
        config: The configuration wished; without a run in `config.out` it stays as it is.
        report: Gets a line for each change.

    Raises:
        ConfigError: it differs from that of the run in a key that would change its past, or makes a run longer whose
            schedule ends with it; the message names each.
    """
    path = value_at(config, "out") / "config.toml"
    if not path.is_file():
        return config
    cls, given = type(config), _dump(config)
    recorded = _recorded(cls, read_toml(path), given)
    settled = {key: recorded[key] for key in _SETTLED if key in recorded and given.get(key, "auto") == "auto"}
    if settled:
        config = parse_config(cls, merge_keys(tomllib.loads(dump_config(config)), _nested(settled)), str(path))
    changes = _changes(recorded, _dump(config))
    refused = [f"{key} = {_told(new)} (so far {_told(old)})" for key, (old, new) in changes.items() if not may_change(cls, key)]
    if refused:
        raise ConfigError(
            f"{path.parent}: {'; '.join(refused)}: a resumed run keeps its own configuration{changeable_words(cls)}; take the "
            f"run's values, or start a new run in another folder"
        )
    for key in _LENGTHS:
        if key in changes:
            _require_schedule(config, key, *changes[key])
    for key, (old, new) in changes.items():
        note = next(text for name, text in CHANGEABLE[cls].items() if f"{key}.".startswith(f"{name}."))
        report(f"resumed with {key} = {_told(new)} (so far {_told(old)}){': ' if note else ''}{note}")
    return config


def _require_schedule(config: Config, key: str, old: object, new: object) -> None:
    schedule = value_at(config, "optimizer.schedule")
    if schedule != "constant" and value_at(config, "optimizer.schedule_steps") is None:
        raise ConfigError(
            f"{key} = {_told(new)} (so far {_told(old)}) with optimizer.schedule = {schedule!r}: the learning rates so far led "
            f"to the end of the run as it was, and would have been others in this one; leave {key} as it is, or start a new "
            f"run, with optimizer.schedule_steps (the step at which the schedule ends) if it may get longer"
        )


def _recorded(cls: type[Config], keys: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The dotted keys of a run's record, as this version writes them."""
    try:
        return _dump(parse_config(cls, keys, "record"))
    except ConfigError:  # a former version took values that this one refuses, and that may be what is changed
        changed = _nested({key: value for key, value in given.items() if may_change(cls, key)})
        return _dump(parse_config(cls, merge_keys(keys, changed), "record")) | {
            key: value for key, value in dotted(keys).items() if may_change(cls, key)
        }


def _dump(config: Config) -> dict[str, Any]:
    return dotted(tomllib.loads(dump_config(config)))


def _nested(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as sections."""
    sections: dict[str, Any] = {}
    for key, value in keys.items():
        below: Any = value
        for name in reversed(key.split(".")):
            below = {name: below}
        sections = merge_keys(sections, below)
    return sections


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(former, present) value of each key that differs; None: it is not there."""
    keys = dict.fromkeys([*new, *old])
    pairs = {key: (old.get(key), new.get(key)) for key in keys if key != "out"}
    return {key: pair for key, pair in pairs.items() if not _is_same(*pair)}


def _is_same(old: object, new: object) -> bool:
    """Whether two values are equal, or name the same file."""
    return old == new or (isinstance(old, str) and isinstance(new, str) and os.path.realpath(old) == os.path.realpath(new))


def _told(value: object) -> str:
    return "none" if value is None else shown(value)
