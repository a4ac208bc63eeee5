"""A table of the trials in a store, so that planning and watching do not read every file.

``index.sqlite`` in the store's folder holds, for each trial's file, its size, its time of change and what a plan needs of
its record. ``Index.rows`` first compares the table with the folder: files that are new or have changed are read, rows
whose file is gone go. So the table follows from the files, whoever wrote them, and nothing is lost with it: where it is
missing, old (of another version), damaged, or cannot be written, it is made again, in memory if need be.
"""

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from .store import Store

FILE = "index.sqlite"
VERSION = 1
"""Of the table's columns, kept as SQLite's ``user_version``: a table of another version is made again."""

PATIENCE = 10.0
"""Seconds to wait for another process that writes the table."""

_TABLE = """CREATE TABLE trials (
 key TEXT PRIMARY KEY, size INTEGER, changed INTEGER,
 problem TEXT, optimizer TEXT, number INTEGER, steps INTEGER, dtype TEXT, status TEXT, done INTEGER, seconds REAL)"""


@dataclass(frozen=True)
class Indexed:
    """What the table says about a trial. ``number`` is its seed's index, ``steps`` its step limit, ``done`` the steps it took
    (fewer after a divergence), ``seconds`` how long it all took, with evaluations."""

    key: str
    problem: str
    optimizer: str
    number: int
    steps: int
    dtype: str
    status: str
    done: int
    seconds: float


class Index:
    """The table of a store's trials."""

    def __init__(self, store: Store):
        self.store = store

    def rows(self) -> list[Indexed]:
        """The sound trials of the store as it is now, by key."""
        path = self.store.folder / FILE
        if self.store.folder.is_dir():
            for _ in range(2):  # what is not a table of ours is made again, once
                try:
                    return self._rows(_checked(path))
                except sqlite3.OperationalError:  # locked for long, or in a folder that cannot be written to
                    break
                except sqlite3.DatabaseError:
                    with contextlib.suppress(OSError):
                        path.unlink()
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute(_TABLE)
        return self._rows(connection)

    def _rows(self, connection: sqlite3.Connection) -> list[Indexed]:
        with contextlib.closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            _update(connection, self.store)
            connection.execute("COMMIT")
            columns = "key, problem, optimizer, number, steps, dtype, status, done, seconds"
            return [Indexed(*row) for row in connection.execute(f"SELECT {columns} FROM trials ORDER BY key")]


def _checked(path: Path) -> sqlite3.Connection:
    """The connection to a table that is whole and of this version, made if it is not there.

    Raises:
        sqlite3.DatabaseError: it is damaged or of another version.
    """
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")  # one process at a time makes or updates it
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _update(connection: sqlite3.Connection, store: Store) -> None:
    there = _files(store)
    kept = {key: (size, changed) for key, size, changed in connection.execute("SELECT key, size, changed FROM trials")}
    connection.executemany("DELETE FROM trials WHERE key = ?", [(key,) for key in kept if kept[key] != there.get(key)])
    quiet = Store(
        store.folder
    )  # a damaged file is named when its trial is wanted, not each time the folder is looked at
    for key, state in there.items():
        if kept.get(key) == state or (record := quiet.record(key)) is None:
            continue
        spec = record["spec"]
        row = (spec["problem"], spec["optimizer"], spec["index"], spec["steps"], spec["dtype"])
        done = (record["status"], record["steps"], record["elapsed_seconds"])
        connection.execute(f"INSERT INTO trials VALUES ({', '.join('?' * 11)})", (key, *state, *row, *done))


def _files(store: Store) -> dict[str, tuple[int, int]]:
    """Size and time of change of each trial's file."""
    if not store.folder.is_dir():
        return {}
    found = {}
    with os.scandir(store.folder) as entries:
        for entry in entries:
            if (
                entry.name.endswith(".npz")
                and entry.name[0] in "0123456789abcdef"
                and not entry.name.startswith("canary")
            ):
                with contextlib.suppress(OSError):  # gone in this moment, or no file
                    state = entry.stat()
                    found[entry.name.removesuffix(".npz")] = (state.st_size, state.st_mtime_ns)
    return found
