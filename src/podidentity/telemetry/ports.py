"""Who holds a TCP port, as far as /proc tells this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN: Final = "0A"
_ADDRESS, _STATE, _INODE = 1, 3, 9


def holder_of(port: int, proc: Path = Path("/proc")) -> str:
    """Give ``<command> (pid <n>)`` of a process that listens on the TCP port, or nothing when it cannot be told."""
    inodes = set(_listening(port, proc))
    if not inodes:
        return ""
    for process in sorted(
        (entry for entry in proc.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name)
    ):
        if any(link in inodes for link in _links(process / "fd")):
            return f"{_command(process)} (pid {process.name})"
    return ""


def _listening(port: int, proc: Path) -> Iterator[str]:
    """Yield ``socket:[inode]`` of each listening socket of that port."""
    for table in ("tcp", "tcp6"):
        try:
            rows = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if len(fields) > _INODE and fields[_STATE] == _LISTEN and fields[_ADDRESS].endswith(f":{port:04X}"):
                yield f"socket:[{fields[_INODE]}]"


def _links(folder: Path) -> Iterator[str]:
    try:
        entries = tuple(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield str(entry.readlink())
        except OSError:
            continue


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip() or "a process"
    except OSError:
        return "a process"
