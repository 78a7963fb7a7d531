"""Where the simulated Azure keeps its state: tables in memory, every change in SQLite before it is seen.

A commit is one SQLite transaction in write-ahead mode. It is on its way to the disk before `commit` returns, so a
process killed with SIGKILL afterwards finds it again; only then do the tables in memory change.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

_LOCK_WAIT = 1.0

_SCHEMA = "CREATE TABLE IF NOT EXISTS objects (kind TEXT, key TEXT, value BLOB, PRIMARY KEY (kind, key)) WITHOUT ROWID"


class Table(Generic[T]):
    """Rows of one kind by key; read like a mapping, changed only through `Store.commit`."""

    def __init__(self, kind: str, row: type[T]) -> None:
        self.kind = kind
        self._decoder = msgspec.json.Decoder(row)
        self._rows: dict[str, T] = {}

    def get(self, key: str) -> T | None:
        """The row, or None."""
        return self._rows.get(key)

    def __getitem__(self, key: str) -> T:
        return self._rows[key]

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def values(self) -> Iterator[T]:
        """All rows, in the order in which they first came."""
        return iter(tuple(self._rows.values()))

    def put(self, key: str, row: T) -> "Change":
        """The change that sets a row."""
        return Change(self, key, row)

    def drop(self, key: str) -> "Change":
        """The change that removes a row; nothing happens when there is none."""
        return Change(self, key, None)

    def _apply(self, key: str, row: T | None) -> None:
        if row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row

    def _load(self, key: str, data: bytes) -> None:
        self._rows[key] = self._decoder.decode(data)


@dataclass(frozen=True, slots=True)
class Change:
    """One row set, or removed when `row` is None."""

    table: Table[Any]
    key: str
    row: Any


class Store:
    """The state directory's database, for one process at a time: sqlite3.OperationalError for the second one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(directory / "cloud.sqlite3", isolation_level=None, timeout=_LOCK_WAIT)
        try:
            for statement in ("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"):
                self._db.execute(statement)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(_SCHEMA)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.close()
            raise

    def load(self, table: Table[Any]) -> None:
        """Fill a table with what was committed."""
        for key, value in self._db.execute("SELECT key, value FROM objects WHERE kind = ?", (table.kind,)):
            table._load(key, value)  # noqa: SLF001 - a table's rows change in this module only

    def commit(self, *changes: Change) -> None:
        """Write all changes or none (sqlite3.Error), then apply them in memory."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                self._write(change)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        for change in changes:
            change.table._apply(change.key, change.row)  # noqa: SLF001 - as above

    def _write(self, change: Change) -> None:
        if change.row is None:
            self._db.execute("DELETE FROM objects WHERE kind = ? AND key = ?", (change.table.kind, change.key))
        else:
            row = (change.table.kind, change.key, msgspec.json.encode(change.row))
            self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", row)

    def close(self) -> None:
        """Close the database."""
        self._db.close()
