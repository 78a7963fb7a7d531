"""Containers as processes: start through the shim, wait, signal, end with everything they started."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podidentity.lab.node.logs import MAX_LINE, LogFile
from podidentity.lab.node.namespaces import bare_python
from podidentity.lab.node.shim import Container, Exec

_SHIM: Final = "podidentity.lab.node.shim"


class StartError(Exception):
    """A container or an exec did not start; the text says why."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What the process gets as stdin, stdout and stderr: file descriptors or asyncio.subprocess constants."""

    stdin: int = asyncio.subprocess.DEVNULL
    stdout: int = asyncio.subprocess.PIPE
    stderr: int = asyncio.subprocess.PIPE


def _explain(job: Container | Exec, report: bytes) -> str:
    found = json.loads(report)
    step, message = found["step"], found["message"]
    if step == "execute":
        reason = "executable file not found in $PATH" if "No such file" in message else message
        return f'exec: "{job.program.argv[0]}": {reason}'
    return f"{step}: {message}"


async def _read_all(fd: int) -> bytes:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb"))
    try:
        return await reader.read()
    finally:
        transport.close()


def _sealed(job: Container | Exec) -> int:
    """A file in memory that holds the job as JSON, read from its start."""
    fd = os.memfd_create("shim")
    with os.fdopen(os.dup(fd), "wb") as stream:
        stream.write(json.dumps(dataclasses.asdict(job)).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


async def spawn(job: Container | Exec, streams: Streams) -> asyncio.subprocess.Process:
    """Start a process through the shim; StartError with the reason when its program does not begin to run."""
    spec = _sealed(job)
    errors, errors_write = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *bare_python(_SHIM),
            str(spec),
            str(errors_write),
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            limit=MAX_LINE,
            env={},
            pass_fds=(spec, errors_write),
            start_new_session=True,
        )
    except BaseException:
        os.close(errors)
        raise
    finally:
        os.close(spec)
        os.close(errors_write)
    try:
        report = await _read_all(errors)
    except BaseException:
        kill_session(process)
        raise
    if report:
        await process.wait()
        raise StartError(_explain(job, report))
    return process


async def ended(pid: int) -> None:
    """Wait for the end of a child process, though what it started may live on and hold its pipes."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _mount_namespace(pid: int | str) -> str:
    """Identifies a container: none of its processes shares this with any other; empty when it is gone."""
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    return ""


def _kill_all(namespace: str) -> None:
    """SIGKILL to every process of a container, until none is left that can be seen."""
    own = _mount_namespace("self")
    if not namespace or namespace == own:
        return
    while True:
        names = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        found = [int(name) for name in names if _mount_namespace(name) == namespace]
        alive = [pid for pid in found if _alive(pid)]
        if not alive:
            return
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][:1] not in {"Z", "X"}


class RunningContainer:
    """One instance of a container, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogFile, pumps: list[asyncio.Task[None]]) -> None:
        self.log = log
        self._process = process
        self._pumps = pumps
        self._namespace = _mount_namespace(process.pid)
        self._over = False

    @property
    def pid(self) -> int:
        """The container's first process."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, negative for a signal; everything the container started is gone then, its log complete."""
        await ended(self.pid)
        await asyncio.to_thread(_kill_all, self._namespace)
        code = await self._process.wait()
        await asyncio.gather(*self._pumps)
        self.log.close()
        self._over = True
        return code

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL to all of it ``grace`` seconds later; returns when the first process has ended."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await ended(self.pid)
        except TimeoutError:
            self.kill()
            await ended(self.pid)

    def kill(self) -> None:
        """SIGKILL to the first process; the others follow in ``wait``."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def destroy(self) -> None:
        """End all of it now, for a kubelet that cannot wait; nothing once ``wait`` has returned."""
        if self._over:
            return
        self.kill()
        _kill_all(self._namespace)
        self.log.close()


def kill_session(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to a process of ``spawn`` that still runs and to what it started, unless that left its group."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def run_command(job: Exec, timeout: float) -> tuple[int, bytes]:  # noqa: ASYNC109 - it is killed, not left alone
    """Run a program in a container: exit code and output. Raises StartError, TimeoutError."""
    process = await spawn(job, Streams(stderr=asyncio.subprocess.STDOUT))
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    finally:
        kill_session(process)
    return process.returncode or 0, output


async def start(job: Container, log: Path, wall: Callable[[], float], tasks: asyncio.TaskGroup) -> RunningContainer:
    """Start a container that logs to ``log``; ``tasks`` runs what copies its output. StartError when it fails."""
    process = await spawn(job, Streams())
    if process.stdout is None or process.stderr is None:
        raise StartError("no pipes")
    file = LogFile(log, wall)
    pumps = [
        tasks.create_task(file.pump(name, reader))
        for name, reader in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    return RunningContainer(process, file, pumps)
