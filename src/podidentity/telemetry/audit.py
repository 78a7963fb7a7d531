"""Audit events: JSON lines, equal ones folded into one with a count, none dropped, whatever the sink does.

The first event of its kind is written at once with ``count`` 1; those equal to it that follow are counted and written
together when the window ends, with the times of the first and the last. So the counts of all lines add up to the
decisions that were made. While the sink cannot take lines, events go on being folded; memory is bounded because an
owner with too many different events gets them folded into coarser ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from podidentity.aio.clock import Clock

SEVERAL: Final = "(several)"
"""Stands in a folded event for values that differ between the events it counts."""

_LINES_AT_ONCE: Final = 512
_RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0)


class SinkFailed(Exception):  # noqa: N818 - what happened to the sink
    """The lines were not taken; ``str`` says why."""


class Sink(Protocol):
    """Where lines go."""

    async def write(self, lines: Sequence[bytes]) -> None:
        """Take all lines (JSON objects without newline) or raise SinkFailed and take none.

        Lines whose write is cancelled count as taken: ``close`` waits for them.
        """
        ...

    async def close(self) -> None:
        """Release what it holds."""
        ...


class _Entry:
    """Events that are equal but for their time: ``count`` of them are not written yet."""

    __slots__ = ("count", "fields", "first", "last", "owner")

    def __init__(self, owner: str, fields: Mapping[str, object], now: float, count: int) -> None:
        self.owner = owner
        self.fields = fields
        self.count = count
        self.first = self.last = now

    def line(self) -> bytes:
        """Return the line of what was counted, and begin anew."""
        times = {"first": _stamp(self.first), "last": _stamp(self.last), "count": self.count}
        self.count = 0
        return msgspec.json.encode({"kind": "audit", **times, **self.fields})


class Audit:
    """Folds events and feeds ``sink``; ``run`` must be running, ``close`` writes what is left.

    ``window`` seconds: how long equal events are counted before they are written. ``per_owner`` different events of
    one owner (a pod, an address) are told apart in a window, and ``most`` of all owners; beyond that only the fields
    in ``of_owner`` and ``of_all`` are.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        clock: Clock,
        of_owner: Collection[str],
        of_all: Collection[str],
        window: float = 10.0,
        per_owner: int = 64,
        most: int = 2048,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._window = window
        self._per_owner = per_owner
        self._most = most
        self._of_owner = of_owner
        self._of_all = of_all
        self._entries: dict[Hashable, _Entry] = {}
        self._owned: Counter[str] = Counter()
        self._fresh: list[_Entry] = []
        self._news = asyncio.Event()
        self._batch: list[bytes] = []
        self.events = 0
        self.written = 0
        self.trouble = ""

    def again(self, key: Hashable, count: int = 1) -> bool:
        """Count one more event (or ``count``) of a kind that is known; False when it is not: call :meth:`first`."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        now = self._clock.wall()
        if entry.count == 0:
            entry.first = now
        entry.last = now
        entry.count += count
        self.events += count
        return True

    def first(self, key: Hashable, owner: str, fields: Mapping[str, object], count: int = 1) -> None:
        """Take the first event (or ``count``) of a kind; ``fields``: what is told of it beside count and times."""
        if len(self._entries) >= self._most:
            owner, fields = SEVERAL, _only(self._of_all, fields)
            key = (owner, *fields.values())
        elif self._owned.get(owner, 0) >= self._per_owner:
            fields = _only(self._of_owner, fields)
            key = (owner, *fields.values())
        if self.again(key, count):
            return
        entry = self._entries[key] = _Entry(owner, fields, self._clock.wall(), count)
        self._owned[owner] += 1
        self._fresh.append(entry)
        self.events += count
        self._news.set()

    @property
    def kinds(self) -> int:
        """How many different events are told apart now."""
        return len(self._entries)

    async def run(self) -> None:
        """Write until cancelled: new kinds at once, counts at the end of each window."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._window
        while True:
            await self._until(end)
            if loop.time() >= end:
                self._end_window()
                end = loop.time() + self._window
            self._take_fresh()
            await self._deliver()

    async def close(self, seconds: float = 2.0) -> None:
        """Write everything that is left, for at most ``seconds``, and close the sink."""
        self._take_fresh()
        self._end_window()
        try:
            async with asyncio.timeout(seconds):
                await self._write()
        except (TimeoutError, SinkFailed) as error:
            self.trouble = str(error) or f"the sink did not take the last lines within {seconds:g} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._sink.close()

    async def _until(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await self._news.wait()
        except TimeoutError:
            return

    def _take_fresh(self) -> None:
        self._news.clear()
        self._batch.extend(entry.line() for entry in self._fresh if entry.count)
        self._fresh.clear()

    def _end_window(self) -> None:
        """Take the lines of what was counted; forget the kinds that did not come again."""
        quiet = [key for key, entry in self._entries.items() if entry.count == 0]
        for key in quiet:
            owner = self._entries.pop(key).owner
            self._owned[owner] -= 1
            if self._owned[owner] <= 0:
                del self._owned[owner]
        self._batch.extend(entry.line() for entry in self._entries.values() if entry.count)

    async def _deliver(self) -> None:
        """Write the batch, however often it takes; meanwhile events are folded."""
        attempt = 0
        while self._batch:
            try:
                await self._write()
            except SinkFailed as failed:
                self.trouble = str(failed)
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
            else:
                self.trouble = ""

    async def _write(self) -> None:
        while self._batch:
            some, self._batch = self._batch[:_LINES_AT_ONCE], self._batch[_LINES_AT_ONCE:]
            try:
                await self._sink.write(some)
            except SinkFailed:
                self._batch = some + self._batch
                raise
            self.written += len(some)


def _only(names: Collection[str], fields: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value if name in names else SEVERAL for name, value in fields.items()}


def _stamp(seconds: float) -> str:
    """Return RFC 3339 with milliseconds."""
    second, millisecond = divmod(round(seconds * 1000), 1000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{millisecond:03d}Z"
