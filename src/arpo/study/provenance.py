"""Whether what a study has made still is what its files ask for."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from arpo.config import dotted
from arpo.errors import ConfigError


def check_provenance(then: Mapping[str, Any], now: Mapping[str, Any], made: Path, ignored: Collection[str] = ()) -> None:
    """Do nothing where `made` would be made from the same keys again.

    Args:
        then: The keys it was made from, as in TOML or JSON.
        now: The keys it would be made from.
        made: For the error.
        ignored: Dotted keys that may differ.

    Raises:
        ConfigError: a key differs; the first is named, with both values and what to do.
    """
    before, after = dotted(then), dotted(now)
    for key in dict.fromkeys((*before, *after)):
        if key not in ignored and before.get(key) != after.get(key):
            old, new = (found.get(key, "the default") for found in (before, after))
            raise ConfigError(
                f"{made}: was made with {key} = {old!r}, and the study now says {new!r}; take the change back, "
                f"name the arm anew, or give another --out"
            )
