"""What is committed is kept, and nothing else."""

import sqlite3
from pathlib import Path

import pytest

from podidentity.lab.cloud.store import Change, Store, Table


def open_store(directory: Path) -> tuple[Store, Table[int]]:
    """A store with one table of numbers, loaded."""
    store, table = Store(directory), Table("number", int)
    store.load(table)
    return store, table


def test_rows_come_back(tmp_path: Path) -> None:
    """Protects a restart: what was put is there, what was dropped is not."""
    store, table = open_store(tmp_path)
    store.commit(table.put("a", 1), table.put("b", 2))
    store.commit(table.drop("a"), table.drop("none"))
    store.close()
    store, table = open_store(tmp_path)
    assert (table.get("a"), table.get("b"), len(table)) == (None, 2, 1)
    store.close()


def test_a_commit_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Protects the state from half a change: memory and disk stay as they were, and the next commit works."""
    store, table = open_store(tmp_path)
    store.commit(table.put("a", 1))
    with pytest.raises(TypeError):
        store.commit(table.put("a", 2), Change(table, "b", object()))
    assert (table["a"], "b" in table) == (1, False)
    store.commit(table.put("c", 3))
    store.close()
    store, table = open_store(tmp_path)
    assert list(table.values()) == [1, 3]
    store.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """Protects the state from two simulators that do not know of each other."""
    store, _ = open_store(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()
