"""The cache: JSON values in one SQLite file, found by the hash of what was asked."""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from arpo.cache.config import CacheConfig
from arpo.errors import DataError

_BUSY_S = 30.0


def cache_key(name: str, version: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a call: the order of the arguments does not matter, their types do.

    Raises:
        TypeError: an argument is not JSON.

    Example:
        cache_key("search", "1", {"query": "x", "k": 3}) == cache_key("search", "1", {"k": 3, "query": "x"})
    """
    text = json.dumps([name, version, arguments], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """Keeps JSON values by key; many processes and threads may use the same file at once.

    Raises:
        DataError: the file cannot be opened or is no SQLite database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self.hits = 0
        """Values found since this object was made."""
        self.misses = 0
        """Keys looked up in vain since this object was made."""
        with self._lock:
            self._connect()

    @classmethod
    def from_config(cls, config: CacheConfig) -> "Cache | None":
        """The cache the configuration asks for; None when it asks for none."""
        return cls(config.path) if config.path is not None else None

    def get(self, key: str) -> Any:
        """The value kept under `key`; None when there is none."""
        with self._lock:
            row = cast(
                "tuple[str] | None", self._connect().execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            )
            if row is None:
                self.misses += 1
                return None
            self.hits += 1
        return json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value; the first one kept under a key stays.

        Raises:
            ValueError: `value` is None, which could not be told from a missing one.
        """
        if value is None:
            raise ValueError("Cache.put: value is None; keep a JSON object, list, string or number")
        with self._lock:
            self._connect().execute("INSERT OR IGNORE INTO entries (key, value) VALUES (?, ?)", (key, json.dumps(value)))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        # A connection must not cross a fork, so a forked process opens its own.
        if self._connection is None or self._owner != os.getpid():
            self._connection, self._owner = self._open(), os.getpid()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"cache.path = {self._path}: cannot open this cache ({error}); name another file or delete it"
            ) from error
        return connection
