"""What the demo leaves and finds."""

from __future__ import annotations

import os
import time
from pathlib import Path

from podidentity.lab.demo import PREFIX, STALE_SECONDS, sweep
from podidentity.lab.lock import exclusive


def left(folder: Path, name: str, *, age: float = 0.0, lock: bool = True) -> Path:
    """A demo's directory as a killed demo leaves it."""
    directory = folder / f"{PREFIX}{name}"
    (directory / "pki").mkdir(parents=True)
    if lock:
        (directory / "lab.lock").touch()
    then = time.time() - age
    os.utime(directory, (then, then))
    return directory


def test_only_what_dead_demos_left_is_swept(tmp_path: Path) -> None:
    """A running demo, one that begins, a link and a stranger's directory stay; what killed demos left goes."""
    dead, old = left(tmp_path, "dead"), left(tmp_path, "old", age=STALE_SECONDS + 1, lock=False)
    begins, runs = left(tmp_path, "begins", lock=False), left(tmp_path, "runs")
    elsewhere = left(tmp_path / "elsewhere", "other")
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(elsewhere)
    with exclusive(runs / "lab.lock", runs):
        sweep(tmp_path)
    assert [path.exists() for path in (dead, old, begins, runs)] == [False, False, True, True]
    assert (elsewhere / "pki").exists()
