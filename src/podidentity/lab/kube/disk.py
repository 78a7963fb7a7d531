"""Objects on disk: one SQLite row an object, one autocommitted statement a write.

A write is in the operating system's hands before it is acknowledged, so killing this process loses nothing; a crash of
the whole machine may (``synchronous=OFF``: a lab does not outlive its machine).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  revision INTEGER NOT NULL, body BLOB,
  PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
"""
_PUT: Final = """
INSERT INTO objects VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET revision = excluded.revision, body = excluded.body
"""
Row = tuple[str, str, str, int, bytes]


class Disk:
    """The rows of one data directory. ``path`` is the database file; ``":memory:"`` keeps nothing."""

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)

    def revision(self) -> int:
        """The highest revision ever written, 0 for a new directory."""
        found = self._db.execute("SELECT max(revision) FROM objects").fetchone()[0]
        return int(found or 0)

    def load(self) -> Iterator[Row]:
        """Every object: resource, namespace, name, revision, JSON body. Older tombstones are dropped first."""
        self._db.execute("DELETE FROM objects WHERE body IS NULL AND revision < (SELECT max(revision) FROM objects)")
        yield from self._db.execute("SELECT * FROM objects WHERE body IS NOT NULL ORDER BY resource, namespace, name")

    def put(self, resource: str, namespace: str, name: str, revision: int, body: bytes | None) -> None:
        """Write one object, or with ``body`` None a tombstone that keeps its revision; may raise ``sqlite3.Error``."""
        self._db.execute(_PUT, (resource, namespace, name, revision, body))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
