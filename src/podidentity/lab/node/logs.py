"""Container logs in the CRI's format, one file an instance: ``TIME STREAM F|P TEXT``."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_LINE: Final = 16 * 1024
"""Bytes after which a line is continued in another record (``P``: partial)."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What a caller wants to see; ``since`` is in seconds since the epoch, ``None`` means no limit."""

    tail: int | None = None
    since: float | None = None
    limit_bytes: int | None = None
    timestamps: bool = False
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log file."""

    time: str
    text: bytes
    complete: bool


def parse(line: bytes) -> Record | None:
    """A record from its line (without newline); None for what is none, such as a line half written."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[2] not in {b"F", b"P"}:  # noqa: PLR2004 - the format's four fields
        return None
    return Record(parts[0].decode(errors="replace"), parts[3], parts[2] == b"F")


def seconds(stamp: str) -> float:
    """RFC 3339 (nanoseconds allowed) as seconds since the epoch; 0 for what is no time."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    try:
        return dt.datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return 0.0


def joined(records: Iterable[Record]) -> Iterator[tuple[str, bytes]]:
    """Whole lines (with newline) and the time of their first part."""
    time, parts = "", []
    for record in records:
        time = time or record.time
        parts.append(record.text)
        if record.complete:
            yield time, b"".join(parts) + b"\n"
            time, parts = "", []
    if parts:
        yield time, b"".join(parts)


class LogFile:
    """The log of one container instance: appended to while it runs, readable for ever."""

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self.path = path
        self._wall = wall
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab", buffering=0)
        self._changed = asyncio.Event()
        self.closed = False

    def write(self, stream: str, text: bytes, *, complete: bool = True) -> None:
        """Append a line (without newline) of ``stdout`` or ``stderr``; dropped after close."""
        if self.closed:
            return
        now = self._wall()
        time = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        self._stream.write(f"{time} {stream} {'F' if complete else 'P'} ".encode() + text + b"\n")
        self._wake()

    def close(self) -> None:
        """No more lines; followers come to their end. Again: nothing."""
        if self.closed:
            return
        self.closed = True
        self._stream.close()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def pump(self, stream: str, reader: asyncio.StreamReader) -> None:
        """Append what a process writes until its end of the pipe is closed; ``reader``'s limit is MAX_LINE."""
        while True:
            try:
                line = await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                self.write(stream, await reader.readexactly(max(error.consumed, 1)), complete=False)
                continue
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    self.write(stream, error.partial)
                return
            self.write(stream, line[:-1])

    async def read(self, query: LogQuery) -> AsyncIterator[bytes]:
        """Chunks of the log as ``query`` wants them; with ``follow`` until the container ends."""
        budget = query.limit_bytes
        with self.path.open("rb") as stream:
            records = [record for line in stream if (record := parse(line.rstrip(b"\n")))]
            lines: Iterable[tuple[str, bytes]] = _selected(joined(records), query)
            while True:
                chunk = b"".join(_shown(time, text, query) for time, text in lines)
                if budget is not None:
                    chunk, budget = chunk[:budget], budget - len(chunk[:budget])
                if chunk:
                    yield chunk
                if not query.follow or budget == 0:
                    return
                changed, closed = self._changed, self.closed
                fresh = [record for line in stream if (record := parse(line.rstrip(b"\n")))]
                lines = [(record.time, record.text + (b"\n" if record.complete else b"")) for record in fresh]
                if fresh:
                    continue
                if closed:
                    return
                await changed.wait()


def _selected(lines: Iterator[tuple[str, bytes]], query: LogQuery) -> Iterable[tuple[str, bytes]]:
    since = query.since
    wanted = lines if since is None else ((time, text) for time, text in lines if seconds(time) >= since)
    return wanted if query.tail is None else deque(wanted, maxlen=query.tail)


def _shown(time: str, text: bytes, query: LogQuery) -> bytes:
    return time.encode() + b" " + text if query.timestamps else text
