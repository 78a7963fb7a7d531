"""One lab a directory: a lock file that the kernel releases when the lab's first process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from podidentity.config.errors import ConfigError

PATIENCE = 1.0
LOOK = 0.02


@contextlib.contextmanager
def exclusive(path: Path, directory: Path) -> Iterator[None]:
    """Hold ``path`` and write our process id into it; ConfigError names who holds it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"--dir {directory}: cannot write there ({error.strerror}); name a directory you own"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise ConfigError(
                f"--dir {directory}: a lab runs there already (process {holder}); "
                f"'podidentity lab down --dir {directory}' ends it, another --dir makes a second one"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(path: Path, patience: float = PATIENCE) -> int | None:
    """The process id of the lab's first process, None when no lab runs.

    It is asked for to send a signal, so a number is believed only of a process here that has the file open: one that is
    just beginning has not written its own yet, one in another container has a number that means somebody else here.
    ConfigError when there is none within ``patience`` seconds, or when the file may not be opened.
    """
    deadline = time.monotonic() + patience
    while (found := _locked_by(path)) is not None:
        if found.isdigit() and _has_open(int(found), path):
            return int(found)
        if time.monotonic() >= deadline:
            raise ConfigError(f"{path}: held by a process that is not to be seen from here; end that lab where it runs")
        time.sleep(LOOK)
    return None


def _locked_by(path: Path) -> str | None:
    """What is written in a lock that is held, None when nobody holds it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a directory you own") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not take each other for a lab
    except BlockingIOError:
        return os.pread(handle, 32, 0).decode(errors="replace").strip()
    finally:
        os.close(handle)
    return None


def _has_open(pid: int, path: Path) -> bool:
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            if link.samefile(path):
                return True
    return False
