"""Who holds the lock that all programs of iptables share, as far as /proc tells this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

LOCK: Final = Path("/run/xtables.lock")
_KIND, _PID, _FILE = 1, 4, 5
_UNKNOWN: Final = "a process that is not seen from this container"


def speaks_of_lock(text: str) -> bool:
    """Whether ``text``, what a program of iptables says when it fails, is about the lock."""
    return "xtables lock" in text or "xtables.lock" in text


def lock_holder(lock: Path = LOCK, proc: Path = Path("/proc")) -> str:
    """Return a sentence that names who holds the lock."""
    held = f"the xtables lock ({LOCK}) is held by"
    try:
        found = lock.stat()
        rows = [row.split() for row in (proc / "locks").read_text().splitlines()]
    except OSError:
        return f"{held} {_UNKNOWN}"
    device = found.st_dev
    file = f"{os.major(device):02x}:{os.minor(device):02x}:{found.st_ino}"
    pids = [row[_PID] for row in rows if row[_KIND] == "FLOCK" and row[_FILE] == file]
    if not pids or not pids[0].isdigit() or pids[0] == "0":
        return f"{held} {_UNKNOWN}"
    try:
        name = (proc / pids[0] / "comm").read_text().strip()
    except OSError:
        return f"{held} pid {pids[0]}"
    return f"{held} {name} (pid {pids[0]})"
