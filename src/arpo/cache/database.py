"""The cache's SQLite file: its tables, and how many processes open it at once."""

import os
import sqlite3
import time
from pathlib import Path

from arpo.errors import DataError

BUSY_S = 30.0
_VERSION = 1
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    digest TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, arguments TEXT NOT NULL, value TEXT NOT NULL,
    bytes INTEGER NOT NULL, created REAL NOT NULL, used REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (used);
CREATE TABLE IF NOT EXISTS totals (bytes INTEGER NOT NULL);
INSERT INTO totals SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS entry_came AFTER INSERT ON entries BEGIN UPDATE totals SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER IF NOT EXISTS entry_went AFTER DELETE ON entries BEGIN UPDATE totals SET bytes = bytes - OLD.bytes; END;
CREATE TABLE IF NOT EXISTS recorded (
    place TEXT PRIMARY KEY, name TEXT NOT NULL, arguments TEXT NOT NULL, value TEXT NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""
"""One transaction: of several processes that run it at once, one makes the tables. `recorded.place` is a call path."""
_TOOLS_TABLE = "CREATE TABLE IF NOT EXISTS tools (name TEXT PRIMARY KEY, version TEXT NOT NULL, schema TEXT NOT NULL)"
"""Made when missing: older cache files lack it."""


def open_database(path: Path, *, may_write: bool) -> sqlite3.Connection:
    """Open the file; make it when it is missing and `may_write`.

    Raises:
        DataError: the file cannot be opened, or is not a cache.
    """
    try:
        if may_write:
            path.parent.mkdir(parents=True, exist_ok=True)
        # A reader cannot make SQLite's shared files in a folder without write access; nobody writes there anyway.
        mode = "rwc" if may_write else "ro" if os.access(path.parent, os.W_OK) else "ro&immutable=1"
        address = f"{path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        if may_write:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            _make_tables(connection)
        version = _version(connection)
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"cache.path = {path}: cannot open this cache ({error}); name another file or delete it") from error
    if version != _VERSION:
        connection.close()
        raise DataError(
            f"cache.path = {path}: this SQLite file is no cache of this version of arpo; name another file or delete it"
        )
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Allow readers beside one writer. SQLite ignores its timeout for this statement, so the loop waits instead."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file; leave another program's file alone."""
    if _version(connection) == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        connection.executescript(_SCHEMA)
    if _version(connection) == _VERSION:
        connection.execute(_TOOLS_TABLE)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
