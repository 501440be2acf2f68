"""The cache: JSON values in one SQLite file, found by the hash of what was asked."""

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

_ROOM = 0.9
"""Share of the size limit that is left filled when results have to go, so that not every new one makes some go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A kept result."""

    key: CacheKey
    value: Any
    created: float
    """Seconds since 1970."""
    hits: int
    """Times it was found, by all processes and runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What is kept of one tool."""

    entries: int
    bytes: int
    """Of results and their arguments."""
    hits: int
    """Times a result was found, by all processes and runs; those of results that went are no longer counted."""
    recorded: int
    """Calls recorded for replay."""


class Cache:
    """Keeps JSON values by key; many processes and threads may use the same file at once.

    A value is kept whole or not at all. Beside the values, which any run may find, it holds recordings: what each call of a run
    gave, by the calls before it on its path.

    Args:
        path: the SQLite file, made when missing.
        mode: as in `CacheConfig`; `replay` and `offline` never write, so the file must be there.
        max_age_s: values older than this are not found.
        max_bytes: of values and their arguments; beyond it those unused for longest go.
        clock: gives seconds since 1970.

    Raises:
        DataError: the file cannot be opened or is no cache.
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
        """Values found since this object was made."""
        self.misses = 0
        """Keys looked up in vain since this object was made."""
        with self._lock:
            self._connect()

    @classmethod
    def from_config(cls, config: CacheConfig) -> "Cache | None":
        """The cache the configuration asks for; None when it asks for none."""
        if config.path is None:
            return None
        max_bytes = int(config.max_mb * 2**20) if config.max_mb is not None else None
        return cls(config.path, config.mode, max_age_s=config.max_age_s, max_bytes=max_bytes)

    def get(self, key: CacheKey) -> Any:
        """The value kept under `key`, or else for any version of its tool; None when there is none, or none young enough."""
        now = self._clock()
        oldest = now - self._max_age_s if self._max_age_s is not None else 0.0
        digests = (key.digest, replace(key, version=ANY_VERSION).digest)
        with self._lock:
            query = "SELECT digest, value FROM entries WHERE digest IN (?, ?) AND created >= ? ORDER BY digest = ? LIMIT 1"
            found = self._connect().execute(query, (*digests, oldest, digests[1])).fetchone()
            row = cast("tuple[str, str] | None", found)
            if row is None:
                self.misses += 1
                return None
            self.hits += 1
            if self._may_write:
                self._connect().execute("UPDATE entries SET hits = hits + 1, used = ? WHERE digest = ?", (now, row[0]))
        return json.loads(row[1])

    def put(self, key: CacheKey, value: Any, *, created: float | None = None) -> bool:
        """Keep a JSON value; the first one kept under a key stays until it is too old.

        Args:
            key: where.
            value: any JSON but null.
            created: seconds since 1970; None: now.

        Returns:
            True when the value is new and is kept.

        Raises:
            ValueError: `value` is None, which could not be told from a missing one.
        """
        if value is None:
            raise ValueError("Cache.put: value is None; keep a JSON object, list, string or number")
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
                _evict(connection, self._max_bytes, target=int(_ROOM * self._max_bytes), newest=key.digest)
        return bool(added)

    def recorded(self, place: str) -> Any:
        """What was recorded at a place on a path (`CacheKey.after`); None when nothing was."""
        with self._lock:
            query = "SELECT value FROM recorded WHERE place = ?"
            row = cast("tuple[str] | None", self._connect().execute(query, (place,)).fetchone())
        return json.loads(row[0]) if row is not None else None

    def record(self, place: str, key: CacheKey, value: Any) -> Any:
        """Record what the call `key` gave at a place on a path; what is recorded there now: the first one stays."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO recorded (place, name, arguments, value) VALUES (?, ?, ?, ?)",
                (place, key.name, key.arguments, json.dumps(value)),
            )
        return self.recorded(place)

    def record_tool(self, name: str, version: str, schema: Mapping[str, Any]) -> None:
        """Record what a tool of the run is, so that a replay needs nothing of what it is made of; the newest stays."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO tools VALUES (?, ?, ?)", (name, version, json.dumps(schema)))

    def recorded_tools(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Version and schema of each recorded tool by name; empty where none was recorded."""
        with self._lock:
            connection = self._connect()
            if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'tools'").fetchone() == (0,):
                return {}
            rows = connection.execute("SELECT name, version, schema FROM tools ORDER BY rowid").fetchall()
        return {name: (version, json.loads(schema)) for name, version, schema in rows}

    def entries(self) -> Iterator[Entry]:
        """Every kept value, by tool, version and arguments."""
        with self._lock:
            rows = self._connect().execute(
                "SELECT name, version, arguments, value, created, hits FROM entries ORDER BY name, version, arguments"
            )
            found = rows.fetchall()
        for name, version, arguments, value, created, hits in found:
            yield Entry(key=CacheKey(name, version, arguments), value=json.loads(value), created=created, hits=hits)

    def statistics(self) -> dict[str, CacheStatistics]:
        """What is kept, by tool."""
        with self._lock:
            kept = self._connect().execute("SELECT name, count(*), sum(bytes), sum(hits) FROM entries GROUP BY name").fetchall()
            recorded = dict(self._connect().execute("SELECT name, count(*) FROM recorded GROUP BY name").fetchall())
        figures = {name: rest for name, *rest in kept}
        return {
            name: CacheStatistics(**dict(zip(("entries", "bytes", "hits"), figures.get(name, (0, 0, 0)), strict=True)),
                                  recorded=recorded.get(name, 0))
            for name in sorted({*figures, *recorded})
        }  # fmt: skip

    def prune(
        self, *, max_age_s: float | None = None, max_bytes: int | None = None, tool: str | None = None, recordings: bool = False
    ) -> int:
        """Delete values, and give their room in the file back.

        Args:
            max_age_s: those older than this; of `tool` alone where that is given.
            max_bytes: those unused for longest, until the rest has at most this many bytes.
            tool: all of this tool, where neither age nor size is given.
            recordings: every recording too.

        Returns:
            How many values and recordings went.
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

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it happens, or nothing."""
        with self._lock:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:  # raised again; whatever it was, half a transaction must not stay
                connection.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        # A connection must not cross a fork, so a forked process opens its own.
        if self._connection is None or self._owner != os.getpid():
            self._connection, self._owner = open_database(self.path, may_write=self._may_write), os.getpid()
        return self._connection


def _evict(connection: sqlite3.Connection, limit: int, *, target: int, newest: str = "") -> None:
    """Where the values exceed `limit` bytes, delete those unused for longest until `target` is kept; never `newest`."""
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
