"""Configuration of the result cache."""

from pathlib import Path

from arpo.config import Config


class CacheConfig(Config):
    """Where results of deterministic calls are kept."""

    path: Path | None = None
    """SQLite file, made when missing and shared by any number of processes and runs; None keeps nothing."""
