"""The first processes of a world: enters new namespaces and is their pid 1. Standard library only.

Started by :func:`podidentity.lab.node.namespaces.enter_world`. Two processes: one outside the new pid namespace that
waits, and pid 1 inside, which mounts a fresh ``/proc``, runs the command and reaps orphans. When the caller ends in
any way, both get SIGKILL and the lifeline reads end of file: pid 1 ends, and with it everything inside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from podidentity.lab.node.init import forward, wait_as_init
from podidentity.lab.node.syscalls import Mount, Namespace, bind, die_with_parent, mount, unshare


@dataclass(frozen=True, slots=True)
class Entry:
    """What to run and the file descriptors to the caller: ``status`` (write), ``lifeline`` (read)."""

    argv: Sequence[str]
    status: int
    lifeline: int
    parent: int
    keep_paths: Sequence[str]


class StepError(Exception):
    """A step that the system refused: its name and errno."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step = step
        self.errno = error.errno or 0


def _report(entry: Entry, step: str, code: int) -> None:
    os.write(entry.status, json.dumps({"step": step, "errno": code}).encode())


def _new_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    step = "user"
    try:
        unshare(Namespace.USER)
        step = "map"
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        step = "unshare"
        unshare(Namespace.MOUNT | Namespace.NET | Namespace.PID)
    except OSError as error:
        raise StepError(step, error) from error


def _private_mounts(keep_paths: Sequence[str]) -> None:
    step = "mount"
    try:
        mount("", "/", flags=Mount.REC | Mount.PRIVATE)
        kept = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in keep_paths if path.startswith("/run/")]
        mount("tmpfs", "/run", fstype="tmpfs", flags=Mount.NOSUID | Mount.NODEV, data="mode=755")
        for path, fd in kept:
            Path(path).mkdir(parents=True)
            bind(f"/proc/self/fd/{fd}", path)
            os.close(fd)
        step = "proc"
        mount("proc", "/proc", fstype="proc", flags=Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)
    except OSError as error:
        raise StepError(step, error) from error


def _run_command(argv: Sequence[str]) -> NoReturn:
    try:
        os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        os._exit(127)


def _init(entry: Entry) -> NoReturn:
    """Pid 1. Never returns; its end is the end of the world."""
    code = 1
    try:
        die_with_parent(signal.SIGKILL)
        _private_mounts(entry.keep_paths)
        main = os.fork()
        if main == 0:
            os.close(entry.lifeline)
            os.close(entry.status)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            _run_command(entry.argv)
        _report(entry, "", 0)
        os.close(entry.status)
        code = wait_as_init(main, entry.lifeline)
    except StepError as error:
        _report(entry, error.step, error.errno)
    finally:
        os._exit(code)


def run(entry: Entry) -> int:
    """Enter the namespaces, run the command, and wait for its end; its exit code."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != entry.parent:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _new_namespaces()
    except StepError as error:
        _report(entry, error.step, error.errno)
        return 1
    die_with_parent(signal.SIGKILL)  # entering a user namespace has cleared it
    init = os.fork()
    if init == 0:
        _init(entry)
    os.close(entry.status)
    os.close(entry.lifeline)
    return forward(init)


def main() -> NoReturn:
    """``JSON argv...``: the JSON carries status, lifeline, parent and keep_paths."""
    given = json.loads(sys.argv[1])
    sys.exit(run(Entry(argv=sys.argv[2:], **given)))
