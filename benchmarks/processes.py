"""Processes started for a measurement, and what the kernel says about any process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from podidentity.lab.node.syscalls import die_with_parent

TICKS = os.sysconf("SC_CLK_TCK")
POLL = 0.01
STOP_DEADLINE = 5.0


class ProcessError(Exception):
    """A process did not start; the text is one line with the end of its log."""


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on, below those the system gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


@asynccontextmanager
async def started(
    words: Sequence[str], log: Path, *, ready: Path | None = None, within: float = 30.0, environ: Mapping[str, str] = {}
) -> AsyncIterator[int]:
    """A process while the block runs, once its ``ready`` file exists; its pid. SIGTERM in the end, then SIGKILL."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environ},
            preexec_fn=partial(die_with_parent, signal.SIGKILL),
        )
    try:
        deadline = time.monotonic() + within
        while ready is not None and not ready.exists():  # noqa: ASYNC240 - a look at a local file
            if process.returncode is not None or time.monotonic() > deadline:
                raise ProcessError(f"{' '.join(words[:4])} is not ready: {last_line(log)}")
            await asyncio.sleep(POLL)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_DEADLINE):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await process.wait()


def last_line(log: Path) -> str:
    """What a process wrote last."""
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it wrote nothing"


def ended(pid: int) -> bool:
    """Whether a process that was started is no more."""
    return not (Path("/proc") / str(pid)).exists()


@dataclass(frozen=True, slots=True)
class Usage:
    """One process: memory in MiB (``peak``: the most it ever had), CPU and start in seconds (start since boot)."""

    pid: int
    command: tuple[str, ...]
    rss: float
    peak: float
    cpu: float
    start: float


def usage(pid: int) -> Usage:
    """Read /proc; raises OSError when the process is gone."""
    proc = Path("/proc") / str(pid)
    words = tuple(word.decode(errors="replace") for word in (proc / "cmdline").read_bytes().split(b"\0")[:-1])
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
    return Usage(
        pid=pid,
        command=words,
        rss=_mebibytes(status.get("VmRSS", "0 kB")),
        peak=_mebibytes(status.get("VmHWM", "0 kB")),
        cpu=cpu(pid),
        start=int(_stat(proc)[19]) / TICKS,
    )


def cpu_times(pid: int) -> tuple[float, float]:
    """CPU seconds the process has used: user, system."""
    fields = _stat(Path("/proc") / str(pid))
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def cpu(pid: int) -> float:
    """CPU seconds the process has used."""
    return sum(cpu_times(pid))


def since_boot() -> float:
    """Now, on the clock of ``Usage.start``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def descendants(root: int) -> Iterator[Usage]:
    """Every process below ``root``, in any pid namespace."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(entry)[1]), []).append(int(entry.name))
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, ())
        with contextlib.suppress(OSError):
            yield usage(pid)


def _stat(proc: Path) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold blanks: [0] is the state, field 3."""
    return (proc / "stat").read_text().rpartition(")")[2].split()


def _mebibytes(text: str) -> float:
    return int(text.split(maxsplit=1)[0]) / 1024
