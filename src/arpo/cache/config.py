"""Configuration of the result cache."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from arpo.config import Config

CacheMode = Literal["normal", "record", "replay", "offline"]


class CacheConfig(Config):
    """The cache's file, its limits, and whether tools run or answer from the cache."""

    path: Path | None = None
    """SQLite file, made when missing and shared by any number of processes and runs; None disables the cache."""
    mode: CacheMode = "normal"
    """`normal`: caches successful results of deterministic tools. `record`: also records every call of the run, failures and
    tools with state included. `replay`: runs no tool and returns the recorded results; a call without a recording ends the run
    with an error. `offline`: runs tools that need no network; the rest answer from the cache or with an error. It writes
    nothing."""
    max_age_s: float | None = Field(default=None, gt=0)
    """Seconds after which a cached result expires; None: never. `replay` and `offline` use results of any age."""
    max_mb: float | None = Field(default=None, gt=0)
    """Most MiB of cached results and their arguments; beyond it the least recently used are deleted. None: no limit.
    Recordings do not count."""

    @model_validator(mode="after")
    def _has_a_file(self) -> "CacheConfig":
        if self.path is None and (self.mode != "normal" or self.max_age_s is not None or self.max_mb is not None):
            raise ValueError("mode, max_age_s and max_mb have no effect without path; set path to the cache's file")
        return self
