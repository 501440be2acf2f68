"""Configuration of the result cache."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from arpo.conditions import IS_SET, only_with
from arpo.config import Config

CacheMode = Literal["normal", "record", "replay", "offline"]


class CacheConfig(Config):
    """The cache's file, its limits, and whether tools run or answer from the cache."""

    short_for = "path"

    path: Path | None = None
    """SQLite file, made when missing and shared by any number of processes and runs; None disables the cache."""
    mode: Annotated[CacheMode, only_with(path=IS_SET)] = "normal"
    """`normal`: caches successful results of deterministic tools. `record`: also records every call of the run, failures and
    tools with state included. `replay`: runs no tool and returns the recorded results; a call without a recording ends the run
    with an error. `offline`: runs tools that need no network; the rest answer from the cache or with an error. It writes
    nothing."""
    max_age_s: Annotated[float | None, only_with(path=IS_SET)] = Field(default=None, gt=0)
    """Seconds after which a cached result expires; None: never. `replay` and `offline` use results of any age."""
    max_mb: Annotated[float | None, only_with(path=IS_SET)] = Field(default=None, gt=0)
    """Most MiB of cached results and their arguments; beyond it the least recently used are deleted. None: no limit.
    Recordings do not count."""
