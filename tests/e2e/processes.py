"""What a lab is to the system (processes, namespaces, mounts, all from /proc), and commands as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("user", "net", "mnt", "pid", "uts")


@dataclass(frozen=True)
class Process:
    """One process; ``started`` (clock ticks) tells it from a later one with the same number."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        found = _stat(self.pid)
        return found is not None and found[1] == self.started and found[2] not in "ZX"

    @property
    def parent(self) -> int:
        """The number of the process that started it; 0 once it is gone."""
        found = _stat(self.pid)
        return found[0] if found else 0

    @property
    def words(self) -> list[str]:
        """Its command line."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")
        return []

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment it was started with."""
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{self.pid}/environ").read_text(errors="replace").split("\0")
            return dict(line.split("=", 1) for line in lines if "=" in line)
        return {}

    @property
    def namespaces(self) -> frozenset[str]:
        """Its namespaces, as ``net:[4026531840]``."""
        found = set()
        for kind in KINDS:
            with contextlib.suppress(OSError):
                found.add(str(Path(f"/proc/{self.pid}/ns/{kind}").readlink()))
        return frozenset(found)


def _stat(pid: int | str) -> tuple[int, int, str] | None:
    """Parent, start time and state."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19]), fields[0]


def tree(root: int) -> list[Process]:
    """A process and everything under it, the root first."""
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if entry.isdigit() and (found := _stat(entry)) is not None:
            children.setdefault(found[0], []).append(Process(int(entry), found[1]))
    top = _stat(root)
    result = [Process(root, top[1])] if top else []
    for process in result:
        result.extend(children.get(process.pid, ()))
    return result


def component(root: int, name: str, hostname: str = "") -> list[Process]:
    """The running ``podidentity NAME`` under ``root``; of the pod ``hostname`` only, when it is given.

    A program that one of them is just starting has its command line for a moment, and is not meant.
    """
    found = [
        process
        for process in tree(root)
        if process.words[1:4] == ["-m", "podidentity", name]
        and (not hostname or process.environ.get("HOSTNAME") == hostname)
    ]
    numbers = {process.pid for process in found}
    return [process for process in found if process.parent not in numbers]


def namespaces_in_use() -> set[str]:
    """Every namespace that some process of the system is in."""
    return set().union(*(Process(int(entry), 0).namespaces for entry in os.listdir("/proc") if entry.isdigit()))  # noqa: PTH208 - as above


def mounts_of(folder: Path) -> list[str]:
    """The mounts this process sees in or from ``folder``."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


@dataclass(frozen=True)
class Footprint:
    """What a lab has in the system: to be compared with what is left of it.

    The namespaces are held open, with nobody in them: the kernel would give their numbers to another lab.
    """

    processes: list[Process]
    namespaces: frozenset[str]
    folder: Path

    @classmethod
    def of(cls, root: int, folder: Path) -> Footprint:
        """The footprint of everything under ``root``, this process's own namespaces left out."""
        processes = tree(root)
        held = _held(processes)
        found = cls(processes, frozenset(held), folder)
        for descriptor in held.values():
            weakref.finalize(found, os.close, descriptor)
        return found

    def left(self) -> list[str]:
        """What is still there."""
        alive = [f"process {one.pid} {' '.join(one.words)[:100]}" for one in self.processes if one.alive]
        spaces = sorted(self.namespaces & namespaces_in_use())
        return [*alive, *spaces, *mounts_of(self.folder)]


def _held(processes: Sequence[Process]) -> dict[str, int]:
    """The namespaces that these are in and this process is not: each by its name, open."""
    own, held = Process(os.getpid(), 0).namespaces, dict[str, int]()
    for path in (f"/proc/{one.pid}/ns/{kind}" for one in processes for kind in KINDS):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if name in own or name in held:
                os.close(descriptor)
            else:
                held[name] = descriptor
    return held


@contextlib.asynccontextmanager
async def command(*argv: str, under: Sequence[str] = (), **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``podidentity ARGV`` as a process (and group) of its own whose output can be read; killed when left.

    ``under`` is a command that runs it, as ``unshare`` does.
    """
    process = await asyncio.create_subprocess_exec(
        *(*under, sys.executable, "-m", "podidentity", *argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*argv: str, within: float = 60, under: Sequence[str] = (), **environ: str) -> tuple[int | None, str, str]:
    """Run ``podidentity ARGV`` to its end: exit code, stdout, stderr."""
    async with command(*argv, under=under, **environ) as process, asyncio.timeout(within):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def said(process: asyncio.subprocess.Process, words: str, within: float = 60) -> str:
    """Read a command's stdout until a line with these words comes; all that was read."""
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(within):
        while words not in text:
            line = await process.stdout.readline()
            assert line, f"it ended without {words!r}: {text}"
            text += line.decode()
    return text


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())
