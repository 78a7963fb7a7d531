"""Watches: what happened since, then what happens, as events in the representation the client asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Protocol

from podidentity.lab.kube.errors import expired
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import encode
from podidentity.lab.kube.store import Change, Store, Stored

BACKLOG: Final = 10_000
"""Events a watch may be behind; a slower client is cut off and has to list again."""

CHUNK: Final = 64 * 1024
"""Bytes handed to a connection at once: what waits is shared between watches, what was handed over is not."""


class Form(Protocol):
    """A representation: ``key`` names it, so that an event is encoded once for all watches of one key."""

    @property
    def key(self) -> Hashable:
        """What the encoded event is remembered under."""

    def first(self, stored: Stored) -> bytes:
        """The object inside a watch's first event."""

    def later(self, stored: Stored) -> bytes:
        """The object inside a later event."""


class Json:
    """Whole objects."""

    def __init__(self, kind: Kind) -> None:
        self.key: Hashable = ("json", kind.api_version)
        self._prefix = prefix(kind)

    def later(self, stored: Stored) -> bytes:
        """The object with apiVersion and kind."""
        return self._prefix + stored.body[1:]

    def first(self, stored: Stored) -> bytes:
        """The same: every event stands for itself."""
        return self.later(stored)


def prefix(kind: Kind) -> bytes:
    """How the JSON of every object of a kind begins."""
    return encode({"apiVersion": kind.api_version, "kind": kind.kind})[:-1] + b","


def event(type_: str, body: bytes) -> bytes:
    """One line of a watch."""
    return b'{"type":"' + type_.encode() + b'","object":' + body + b"}\n"


class Watch:
    """One client's watch. ``selects`` decides which objects it sees; it must be cheap: every change is offered."""

    def __init__(self, store: Store, kind: Kind, form: Form, selects: Callable[[Stored], bool]) -> None:
        self._store = store
        self._kind = kind
        self._form = form
        self._selects = selects
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._number = 0
        self._started = False
        self._ended = False
        self._seen = store.revision
        self._after = 0

    def start(self, revision: int | None) -> None:
        """Begin after ``revision``, which may be one to come; None begins with every object as it is now.

        Raises 410 when that is too old.
        """
        if revision is None:
            for stored in self._store.scan(self._kind.resource):
                if self._selects(stored):
                    self._add("ADDED", stored, None)
        else:
            self._after = revision
            for change in self._store.since(self._kind.resource, revision):
                self._offer(change)
        self._seen = self._store.revision
        self._number = self._store.listen(self._kind.resource, self._offer)

    def stop(self) -> None:
        """End: what waits can still be taken, then :meth:`take` gives nothing."""
        self._store.unlisten(self._kind.resource, self._number)
        self._ended = True
        self._wake.set()

    def bookmark(self, *, initial: bool = False) -> None:
        """Tell the client how far it has seen everything."""
        metadata: dict[str, object] = {"resourceVersion": str(self._store.revision), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        body = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        self._waiting.append(event("BOOKMARK", encode(body)))
        self._wake.set()

    async def take(self) -> bytes:
        """The next lines, about CHUNK bytes of them; waits for the first. Empty when the watch has ended."""
        while not self._waiting and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        lines, size = [], 0
        while self._waiting and size < CHUNK:
            lines.append(self._waiting.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def _offer(self, change: Change) -> None:
        if change.now.revision <= self._after:
            return
        now = change.type != "DELETED" and self._selects(change.now)
        before = change.old is not None and self._selects(change.old)
        if now:
            self._add("MODIFIED" if before else "ADDED", change.now, change)
        elif before and change.old:
            self._add("DELETED", change.old.gone(change.now.revision), change)

    def _add(self, type_: str, stored: Stored, change: Change | None) -> None:
        if self._ended:
            return
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self._waiting.append(event("ERROR", encode(expired(self._seen, stored.revision).status())))
            self.stop()
            return
        if not self._started:
            line = event(type_, self._form.first(stored))
        elif change is None:
            line = event(type_, self._form.later(stored))
        else:
            key = (type_, self._form.key)
            line = change.encoded.get(key) or event(type_, self._form.later(stored))
            change.encoded[key] = line
        self._started = True
        self._waiting.append(line)
        self._wake.set()
