"""Two agents of one node during a rolling update: a place for each, held by a lock on a file the host keeps.

Without a place nobody shares a listener: a third agent, or something that is no agent, is refused by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podidentity.config.errors import ConfigError

PLACES: Final = 2
MIGRATE: Final = Path("/proc/sys/net/ipv4/tcp_migrate_req")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that is held until ``close``. ``since`` orders agents: epoch seconds."""

    folder: Path
    port: int
    number: int
    since: float
    file: int

    def superseded(self) -> bool:
        """Whether an agent that started later is there: it keeps the datapath then."""
        return any(
            _is_held(path) and _told(path)[1] > self.since
            for number, path in enumerate(_paths(self.folder, self.port))
            if number != self.number
        )

    def alone(self) -> bool:
        """Whether no other agent holds a place."""
        paths = _paths(self.folder, self.port)
        return not any(_is_held(path) for number, path in enumerate(paths) if number != self.number)

    def close(self) -> None:
        """Give the place up."""
        os.close(self.file)


def take(folder: str, port: int, now: float) -> Slot:
    """Take a place among the agents that listen on ``port``. ConfigError names those who hold all of them."""
    below = Path(folder)
    try:
        below.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, path in enumerate(_paths(below, port)):
            file = _try(path)
            if file is not None:
                os.ftruncate(file, 0)
                told = {"who": f"{socket.gethostname()} (pid {os.getpid()})", "since": now}
                os.pwrite(file, json.dumps(told).encode(), 0)
                return Slot(below, port, number, now, file)
    except OSError as error:
        raise ConfigError(f"--lock-dir={folder}: {error.strerror or error}") from error
    holders = " and ".join(_told(path)[0] for path in _paths(below, port))
    raise ConfigError(f"port {port} is served by {holders}; wait for one of them to end")


def _paths(folder: Path, port: int) -> list[Path]:
    return [folder / f"nmi-{port}.{number}.lock" for number in range(PLACES)]


def _try(path: Path) -> int | None:
    """Return the open file if its lock could be had."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _is_held(path: Path) -> bool:
    try:
        file = _try(path)
    except OSError:
        return False
    if file is None:
        return True
    os.close(file)
    return False


def _told(path: Path) -> tuple[str, float]:
    """Return who wrote a lock file, and since when; what cannot be read is somebody, long ago."""
    try:
        told = json.loads(path.read_text())
        return str(told["who"]), float(told["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the holder of {path}", 0.0


def hand_over_half_open(migrate: Path = MIGRATE) -> None:
    """Ask the kernel (5.14 or later) to give connections that are being made to the other agent when one closes.

    ``migrate`` is the kernel's switch. Where it may not be written, as in a container without privileges, such a
    connection is reset.
    """
    with contextlib.suppress(OSError):
        migrate.write_text("1")
