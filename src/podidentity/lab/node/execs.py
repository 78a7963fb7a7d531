"""Exec over a websocket, v5.channel.k8s.io: the first byte of a message is its channel."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from aiohttp import WSMsgType, web

from podidentity.lab.node.containers import StartError, Streams, ended, kill_session, spawn
from podidentity.lab.node.shim import Exec

PROTOCOL: Final = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK: Final = 32 * 1024
_DRAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What the caller wants connected."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


def status_of_exit(code: int) -> dict[str, object]:
    """The end status for an exit code (negative: a signal). Pure."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    number = code if code > 0 else 128 - code
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {number}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(number)}]},
    }


def status_of_failure(text: str) -> dict[str, object]:
    """The end status of a command that did not start. Pure."""
    message = f"Internal error occurred: error executing command in container: {text}"
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}


class _Input(Protocol):
    """Where stdin goes."""

    async def write(self, data: bytes) -> None:
        """Pass on what the caller typed."""

    def end(self) -> None:
        """The caller's stdin has ended."""

    def resize(self, size: Mapping[str, int]) -> None:
        """The caller's terminal has another size."""


class _Nothing:
    """No stdin."""

    async def write(self, data: bytes) -> None:
        """Drop it."""

    def end(self) -> None:
        """Nothing to end."""

    def resize(self, size: Mapping[str, int]) -> None:
        """No terminal."""


class _Pipe(_Nothing):
    """stdin is a pipe."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    def end(self) -> None:
        self._writer.close()


class _Terminal(_Nothing):
    """stdin is a terminal; ``master`` is our end of it."""

    def __init__(self, master: int) -> None:
        self._master = master

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(os.write, self._master, data)

    def resize(self, size: Mapping[str, int]) -> None:
        packed = struct.pack("HHHH", size.get("Height", 24), size.get("Width", 80), 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)


async def _copy(socket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError, OSError):
        while data := await reader.read(_CHUNK):
            await socket.send_bytes(bytes([channel]) + data)


async def _listen(socket: web.WebSocketResponse, target: _Input) -> None:
    """Pass on what the caller sends until it goes away."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN:
            await target.write(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            target.end()
        elif channel == RESIZE:
            with suppress(ValueError, OSError):
                target.resize(json.loads(data))


async def _exit_code(process: asyncio.subprocess.Process) -> int:
    """The code of a process that has ended; its pipes may still be held by what it left running."""
    while process.returncode is None:  # noqa: ASYNC110 - asyncio has an event for the end of the pipes only
        await asyncio.sleep(0.001)
    return process.returncode


async def _run(
    socket: web.WebSocketResponse,
    process: asyncio.subprocess.Process,
    target: _Input,
    readers: list[tuple[int, asyncio.StreamReader]],
) -> int | None:
    """Until the process has ended and its output is sent, or the caller has gone (None)."""
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(_listen(socket, target))
        copying = [tasks.create_task(_copy(socket, channel, reader)) for channel, reader in readers]
        ending = tasks.create_task(ended(process.pid))
        await asyncio.wait({listening, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            kill_session(process)
        await ending
        if copying:
            await asyncio.wait(copying, timeout=_DRAIN)
        for task in (listening, *copying):
            task.cancel()
    return None if socket.closed else await _exit_code(process)


async def _run_with_pipes(socket: web.WebSocketResponse, job: Exec, wanted: ExecRequest) -> int | None:
    stdin = asyncio.subprocess.PIPE if wanted.stdin else asyncio.subprocess.DEVNULL
    process = await spawn(job, Streams(stdin=stdin))
    target: _Input = _Pipe(process.stdin) if process.stdin else _Nothing()
    readers = [(STDOUT, process.stdout), (STDERR, process.stderr)]
    return await _run(socket, process, target, [(channel, reader) for channel, reader in readers if reader])


async def _run_with_terminal(socket: web.WebSocketResponse, job: Exec) -> int | None:
    master, slave = pty.openpty()
    try:
        process = await spawn(replace(job, tty=True), Streams(slave, slave, slave))
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    stream = os.fdopen(os.dup(master), "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    try:
        return await _run(socket, process, _Terminal(master), [(STDOUT, reader)])
    finally:
        transport.close()
        os.close(master)


async def serve_exec(request: web.Request, job: Exec, wanted: ExecRequest) -> web.WebSocketResponse:
    """Answer an exec request: run ``job`` in its container with the caller's streams, then say how it ended."""
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
    await socket.prepare(request)
    try:
        code = await (_run_with_terminal(socket, job) if wanted.tty else _run_with_pipes(socket, job, wanted))
        status = None if code is None else status_of_exit(code)
    except StartError as error:
        status = status_of_failure(str(error))
    if status is not None and not socket.closed:
        await socket.send_bytes(bytes([STATUS]) + json.dumps(status).encode())
        await socket.close(code=1000)
    return socket
