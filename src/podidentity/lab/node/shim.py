"""Becomes a container: enters its namespaces and its root, drops capabilities, executes. Standard library only.

Reads a :class:`Container` or an :class:`Exec` as JSON from one file descriptor. A failure is written to another as
``{"step", "message"}``; when that reads end of file without a word, the program has started.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from podidentity.lab.node.rootfs import RootPlan, VolumeMount, enter_root
from podidentity.lab.node.syscalls import (
    Namespace,
    die_with_parent,
    keep_capabilities,
    no_new_privileges,
    setns,
    unshare,
)

_START_FAILED: Final = 128
_EXEC_NAMESPACES: Final = (("net", Namespace.NET), ("uts", Namespace.UTS), ("mnt", Namespace.MOUNT))


@dataclass(frozen=True, slots=True)
class Program:
    """What to execute, and with which rights; ``capabilities`` are numbers of the kernel."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/"
    capabilities: Sequence[int] = ()
    no_new_privileges: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """A container to start; ``network`` is the path of its namespace, empty for the node's own."""

    program: Program
    root: RootPlan
    hostname: str
    network: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    """A program to start inside the running container whose first process is ``pid``; ``tty``: stdin is a terminal."""

    program: Program
    pid: int
    tty: bool = False


@dataclass
class _Progress:
    """The step under way, for the error."""

    step: str = field(default="start")


def decode(data: Mapping[str, Any]) -> Container | Exec:
    """The inverse of ``dataclasses.asdict``."""
    program = Program(**data["program"])
    if "pid" in data:
        return Exec(program, data["pid"], data["tty"])
    root = dict(data["root"])
    root["mounts"] = [VolumeMount(**item) for item in root["mounts"]]
    return Container(program, RootPlan(**root), data["hostname"], data["network"])


def _last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))


def _enter(job: Container | Exec, progress: _Progress) -> None:
    if isinstance(job, Exec):
        progress.step = "join container"
        paths = [(f"/proc/{job.pid}/ns/{name}", kind) for name, kind in _EXEC_NAMESPACES]
        for path, kind in paths:
            setns(path, kind)
        os.chdir("/")
        if job.tty:
            progress.step = "take the terminal"
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        return
    progress.step = "join network"
    if job.network:
        setns(job.network, Namespace.NET)
    progress.step = "mount"
    unshare(Namespace.MOUNT | Namespace.UTS)
    socket.sethostname(job.hostname)
    enter_root(job.root)


def _execute(program: Program, progress: _Progress) -> NoReturn:
    progress.step = "change directory"
    os.chdir(program.cwd)
    progress.step = "set capabilities"
    keep_capabilities(frozenset(program.capabilities), _last_capability())
    if program.no_new_privileges:
        no_new_privileges()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    progress.step = "execute"
    os.execvpe(program.argv[0], list(program.argv), program.env)  # noqa: S606 - no shell is wanted


def main() -> NoReturn:
    """``SPEC_FD ERROR_FD``."""
    spec, errors = int(sys.argv[1]), int(sys.argv[2])
    progress = _Progress()
    try:
        die_with_parent(signal.SIGKILL)
        os.set_inheritable(errors, False)  # noqa: FBT003 - the standard library's signature
        with os.fdopen(spec, encoding="utf-8") as stream:
            job = decode(json.load(stream))
        _enter(job, progress)
        _execute(job.program, progress)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        os.write(errors, json.dumps({"step": progress.step, "message": f"{name}{error.strerror}"}).encode())
    os._exit(_START_FAILED)
