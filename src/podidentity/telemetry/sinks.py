"""Where audit lines go: a stream, a file, or a collector that speaks OTLP."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from podidentity.telemetry.audit import Sink, SinkFailed
from podidentity.telemetry.otlp import OtlpSink

FILE: Final = "file:"
OTLP: Final = "otlp:"
OFF: Final = "off"

_Job = tuple[bytes, asyncio.Future[None]]


def sink_of(where: str, **resource: str) -> Sink | None:
    """Return the sink that ``where`` names (``off``, ``file:PATH``, ``otlp:URL``, else standard output).

    ``resource``: who is telling, for a collector.
    """
    if where == OFF:
        return None
    if where.startswith(OTLP):
        return OtlpSink(where.removeprefix(OTLP), resource)
    if where.startswith(FILE):
        return ThreadSink(FileWriter(where.removeprefix(FILE)))
    return ThreadSink(_to_stdout)


def _to_stdout(lines: bytes) -> None:
    _write_all(1, lines)


class FileWriter:
    """Appends to a file, opened anew each time, so that whoever rotates it needs to tell nobody. Mode 0600."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, lines: bytes) -> None:
        """Append. Raises OSError."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, lines)
        finally:
            os.close(file)


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


class ThreadSink:
    """Writes from a thread of its own: a reader that has stopped reading stops neither the loop nor the exit."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: asyncio.Future[None] | None = None

    async def write(self, lines: Sequence[bytes]) -> None:
        """Hand the lines to the thread and wait for it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()
        self._last = done = asyncio.get_running_loop().create_future()
        self._jobs.put((b"".join(line + b"\n" for line in lines), done))
        try:
            await asyncio.shield(done)
        except OSError as error:
            raise SinkFailed(error.strerror or str(error)) from error

    async def close(self) -> None:
        """Wait for what was handed over, and end the thread."""
        if self._thread is None:
            return
        self._jobs.put(None)
        if self._last is not None:
            await asyncio.wait([self._last])
            self._last.exception()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            data, done = job
            try:
                self._write(data)
            except OSError as error:
                _tell(done, error)
            else:
                _tell(done, None)


def _tell(done: asyncio.Future[None], error: OSError | None) -> None:
    """Settle the future on its own loop, unless that has ended."""

    def settle() -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    try:
        done.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:
        return
