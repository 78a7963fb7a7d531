"""Who holds a lab's directory."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.lab.lock import exclusive, holder


def test_the_holder_is_known_while_it_holds(tmp_path: Path) -> None:
    """`lab down` and `lab status` find the process of a lab, and none where none runs."""
    lock = tmp_path / "lab.lock"
    assert holder(lock) is None
    with exclusive(lock, tmp_path):
        assert holder(lock) == os.getpid()
        with pytest.raises(ConfigError, match=rf"a lab runs there already \(process {os.getpid()}\); "):
            exclusive(lock, tmp_path).__enter__()
    assert holder(lock) is None


def test_somebody_elses_lab_is_not_called_absent() -> None:
    """A lock that may not be opened (here a file that the kernel opens for nobody to write) is told of."""
    lock = Path("/sys/kernel/notes")
    with pytest.raises(ConfigError, match=rf"{lock}: cannot be read \(.*\); name a directory you own"):
        holder(lock)


def test_only_a_process_that_has_the_lock_open_is_named(tmp_path: Path) -> None:
    """`lab down` must not end a stranger whose number a lab in a container, or a dead lab, has left in the file."""
    lock = tmp_path / "lab.lock"
    with exclusive(lock, tmp_path):
        for stranger in ("1", "", "x", str(2**22 + 1)):
            lock.write_text(stranger)
            with pytest.raises(ConfigError, match="held by a process that is not to be seen from here; end that lab"):
                holder(lock, patience=0)
    assert holder(lock) is None


def test_a_lab_that_just_begins_is_waited_for(tmp_path: Path) -> None:
    """Between taking the lock and writing its number a lab is not mistaken for the one before it."""
    lock = tmp_path / "lab.lock"
    with exclusive(lock, tmp_path):
        lock.write_text("1")
        writes = threading.Timer(0.2, lock.write_text, [f"{os.getpid()}\n"])
        writes.start()
        assert holder(lock, patience=20) == os.getpid()
        writes.join()
