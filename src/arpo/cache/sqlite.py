"""The cache: JSON values in one SQLite file, by the hash of the call."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from arpo.cache.config import CacheConfig, CacheMode
from arpo.cache.database import open_database
from arpo.cache.key import ANY_VERSION, CacheKey

_EVICTION_TARGET = 0.9
"""Share of the size limit to which an eviction shrinks the cache, so that not every new result evicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A cached result."""

    key: CacheKey
    value: Any
    created: float
    """Seconds since 1970."""
    hits: int
    """Hits by all processes and runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """Contents of the cache for one tool."""

    entries: int
    bytes: int
    """Bytes of results and their arguments."""
    hits: int
    """Hits by all processes and runs; hits of deleted results do not count."""
    recorded: int
    """Calls recorded for replay."""


class Cache:
    """Stores JSON values by key; many processes and threads may use the same file at once.

    Each value is written in one transaction. Beside the values, which any run may read, the file holds recordings: the result
    of each call of a run, by its call path.

    Args:
        path: SQLite file, made when missing.
        mode: as in `CacheConfig`; `replay` and `offline` never write and need an existing file.
        max_age_s: age in seconds beyond which values are ignored.
        max_bytes: most bytes of values and their arguments; beyond it the least recently used are deleted.
        clock: returns seconds since 1970.

    Raises:
        DataError: the file cannot be opened or is not a cache.
    """

    def __init__(
        self,
        path: Path,
        mode: CacheMode = "normal",
        *,
        max_age_s: float | None = None,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.mode = mode
        self._may_write = mode in ("normal", "record")
        self._max_age_s = max_age_s if self._may_write else None
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self.hits = 0
        """Successful lookups since this object was made."""
        self.misses = 0
        """Failed lookups since this object was made."""
        with self._lock:
            self._connect()

    @classmethod
    def from_config(cls, config: CacheConfig) -> "Cache | None":
        """The configured cache; None without a path."""
        if config.path is None:
            return None
        max_bytes = int(config.max_mb * 2**20) if config.max_mb is not None else None
        return cls(config.path, config.mode, max_age_s=config.max_age_s, max_bytes=max_bytes)

    def get(self, key: CacheKey) -> Any:
        """The value of `key`, else of the same call with `ANY_VERSION`; None when there is none, or it is too old."""
        now = self._clock()
        oldest = now - self._max_age_s if self._max_age_s is not None else 0.0
        digests = (key.digest, replace(key, version=ANY_VERSION).digest)
        with self._lock:
            query = "SELECT digest, value FROM entries WHERE digest IN (?, ?) AND created >= ? ORDER BY digest = ? LIMIT 1"
            fetched = self._connect().execute(query, (*digests, oldest, digests[1])).fetchone()
            row = cast("tuple[str, str] | None", fetched)
            if row is None:
                self.misses += 1
                return None
            self.hits += 1
            if self._may_write:
                self._connect().execute("UPDATE entries SET hits = hits + 1, used = ? WHERE digest = ?", (now, row[0]))
        return json.loads(row[1])

    def put(self, key: CacheKey, value: Any, *, created: float | None = None) -> bool:
        """Store a JSON value, unless the key already has one that is not too old.

        Args:
            key: key of the call.
            value: any JSON but null.
            created: seconds since 1970; None: now.

        Returns:
            True when the value was stored.

        Raises:
            ValueError: `value` is None, which `get` returns for a missing value.
        """
        if value is None:
            raise ValueError("Cache.put: value is None; pass a JSON object, list, string or number")
        text, now = json.dumps(value), self._clock()
        num_bytes = len(text) + len(key.arguments)  # both are ASCII
        if self._max_bytes is not None and num_bytes > self._max_bytes:
            return False
        row = (key.digest, key.name, key.version, key.arguments, text, num_bytes, created or now, now)
        with self._writing() as connection:
            if self._max_age_s is not None:
                oldest = now - self._max_age_s
                connection.execute("DELETE FROM entries WHERE digest = ? AND created < ?", (key.digest, oldest))
            columns = "digest, name, version, arguments, value, bytes, created, used"
            added = connection.execute(
                f"INSERT OR IGNORE INTO entries ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
            ).rowcount
            if added and self._max_bytes is not None:
                _evict(connection, self._max_bytes, target=int(_EVICTION_TARGET * self._max_bytes), newest=key.digest)
        return bool(added)

    def recorded(self, call_path: str) -> Any:
        """The value recorded for a call path (`CacheKey.after`); None when there is none."""
        rows = self._fetch("SELECT value FROM recorded WHERE place = ?", call_path)
        return json.loads(rows[0][0]) if rows else None

    def record(self, call_path: str, key: CacheKey, value: Any) -> Any:
        """Record the result of the call `key`, unless its call path already has one; the recorded value."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO recorded (place, name, arguments, value) VALUES (?, ?, ?, ?)",
                (call_path, key.name, key.arguments, json.dumps(value)),
            )
        return self.recorded(call_path)

    def record_tool(self, name: str, version: str, schema: Mapping[str, Any]) -> None:
        """Record the version and schema of a tool, for replays without the tool; a newer record replaces an older one."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO tools VALUES (?, ?, ?)", (name, version, json.dumps(schema)))

    def recorded_tools(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Version and schema of each recorded tool by name."""
        if not self._fetch("SELECT name FROM sqlite_master WHERE name = 'tools'"):
            return {}
        rows = self._fetch("SELECT name, version, schema FROM tools ORDER BY rowid")
        return {name: (version, json.loads(schema)) for name, version, schema in rows}

    def entries(self) -> Iterator[Entry]:
        """Every cached value, by tool, version and arguments."""
        columns = "name, version, arguments, value, created, hits"
        for *call, value, created, hits in self._fetch(f"SELECT {columns} FROM entries ORDER BY name, version, arguments"):
            yield Entry(key=CacheKey(*call), value=json.loads(value), created=created, hits=hits)

    def statistics(self) -> dict[str, CacheStatistics]:
        """Contents of the cache by tool."""
        rows = self._fetch("SELECT name, count(*), sum(bytes), sum(hits) FROM entries GROUP BY name")
        sums = {name: tuple(values) for name, *values in rows}
        recorded: dict[str, int] = dict(self._fetch("SELECT name, count(*) FROM recorded GROUP BY name"))
        statistics: dict[str, CacheStatistics] = {}
        for name in sorted({*sums, *recorded}):
            entries, num_bytes, hits = sums.get(name, (0, 0, 0))
            statistics[name] = CacheStatistics(entries=entries, bytes=num_bytes, hits=hits, recorded=recorded.get(name, 0))
        return statistics

    def prune(
        self, *, max_age_s: float | None = None, max_bytes: int | None = None, tool: str | None = None, recordings: bool = False
    ) -> int:
        """Delete values and shrink the file.

        Args:
            max_age_s: deletes values older than this, in seconds; only those of `tool` when that is given.
            max_bytes: deletes the least recently used values until the rest has at most this many bytes.
            tool: deletes all values of this tool when neither age nor size is given.
            recordings: True deletes every recording too.

        Returns:
            Number of deleted values and recordings.
        """
        with self._writing() as connection:
            before = _count(connection)
            if max_age_s is not None:
                oldest = self._clock() - max_age_s
                connection.execute(
                    "DELETE FROM entries WHERE created < ? AND name = coalesce(?, name)", (oldest, tool)
                )  # fmt: skip
            elif tool is not None and max_bytes is None:
                connection.execute("DELETE FROM entries WHERE name = ?", (tool,))
            if max_bytes is not None:
                _evict(connection, max_bytes, target=max_bytes)
            if recordings:
                connection.execute("DELETE FROM recorded")
                connection.execute("DELETE FROM tools")
            removed = before - _count(connection)
        with self._lock:
            self._connect().execute("VACUUM")
        return removed

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _fetch(self, query: str, *values: str) -> list[Any]:
        with self._lock:
            return self._connect().execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        with self._lock:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:  # raised again; no half transaction may stay
                connection.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        # A connection must not cross a fork, so a forked process opens a new one.
        if self._connection is None or self._owner != os.getpid():
            self._connection, self._owner = open_database(self.path, may_write=self._may_write), os.getpid()
        return self._connection


def _evict(connection: sqlite3.Connection, limit: int, *, target: int, newest: str = "") -> None:
    """When the values exceed `limit` bytes, delete the least recently used until `target` bytes are left; never `newest`."""
    (total,) = connection.execute("SELECT bytes FROM totals").fetchone()
    if total <= limit:
        return
    for digest, num_bytes in connection.execute("SELECT digest, bytes FROM entries ORDER BY used, digest").fetchall():
        if total <= target:
            return
        if digest != newest:
            connection.execute("DELETE FROM entries WHERE digest = ?", (digest,))
            total -= num_bytes


def _count(connection: sqlite3.Connection) -> int:
    return sum(int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in ("entries", "recorded"))
