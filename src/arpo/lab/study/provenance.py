"""Checks that a study's files still ask for what the study has made."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from arpo.config import dotted
from arpo.errors import ConfigError


def check_provenance(then: Mapping[str, Any], now: Mapping[str, Any], made: Path, ignored: Collection[str] = ()) -> None:
    """Check that `made` was made from the keys that the study now has.

    Args:
        then: The keys that `made` was made from, as in TOML or JSON.
        now: The study's keys.
        made: For the error.
        ignored: Dotted keys that may differ.

    Raises:
        ConfigError: a key differs; the first is named, with both values and what to do.
    """
    before, after = dotted(then), dotted(now)
    for key in dict.fromkeys((*before, *after)):
        if key not in ignored and before.get(key) != after.get(key):
            old, new = (keys.get(key, "the default") for keys in (before, after))
            raise ConfigError(
                f"{made}: was made with {key} = {old!r}, and the study now says {new!r}; take the change back, "
                f"name the arm anew, or give another --out"
            )
