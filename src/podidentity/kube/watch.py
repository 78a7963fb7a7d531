"""The watch's wire format: one JSON document a line, of any length up to a bound. Pure, no I/O."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from podidentity.api.meta import KubeObject
from podidentity.kube.errors import ApiError, KubeUnavailable
from podidentity.kube.request import Parser, error, identify
from podidentity.kube.store import ADDED, BOOKMARK, DELETED, MODIFIED, UNREADABLE, WatchEvent

T = TypeVar("T", bound=KubeObject)

MAX_LINE: Final = 8 << 20
"""Bytes of one event at most; etcd keeps no object above 1.5 MiB, JSON may double it."""

_OBJECT_EVENTS: Final = frozenset({ADDED, MODIFIED, DELETED})


class LineSplitter:
    """Cuts a stream of chunks into lines; never keeps more than ``limit`` bytes of an unfinished one."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines this chunk completes, empty ones left out. Raises KubeUnavailable for a line too long."""
        *complete, rest = chunk.split(b"\n")
        lines: list[bytes] = []
        for piece in complete:
            self._keep(piece)
            lines.append(b"".join(self._parts))
            self._parts, self._size = [], 0
        self._keep(rest)
        return [line for line in lines if line.strip()]

    @property
    def unfinished(self) -> bool:
        """Whether bytes of a line without an end are waiting."""
        return any(part.strip() for part in self._parts)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._parts, self._size = [], 0
            raise KubeUnavailable(f"the watch sent a line of more than {self._limit} bytes")
        if piece:
            self._parts.append(piece)


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _ErrorObject(msgspec.Struct, frozen=True):
    code: int = 0


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_CODE: Final = msgspec.json.Decoder(_ErrorObject)


def decode_event(line: bytes, parser: Parser[T]) -> WatchEvent[T]:
    """One line as an event.

    Raises the ApiError an ERROR event carries (Gone for 410), KubeUnavailable for a line that is no event.
    An object that does not fit its type is an UNREADABLE event, so that one bad object cannot stop a watch.
    """
    try:
        envelope = _ENVELOPE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise KubeUnavailable(f"the watch sent a line that is no event: {problem}") from problem
    if envelope.type == "ERROR":
        raise _carried(bytes(envelope.object))
    key, version = identify(envelope.object)
    if envelope.type == BOOKMARK:
        return WatchEvent(BOOKMARK, None, version)
    if envelope.type not in _OBJECT_EVENTS:
        raise KubeUnavailable(f"the watch sent an event of type {envelope.type[:40]!r}")
    try:
        obj = parser.object(envelope.object)
    except KubeUnavailable as problem:
        if not key or key == "?":
            raise
        kind = DELETED if envelope.type == DELETED else UNREADABLE
        return WatchEvent(kind, None, version, key, str(problem))
    return WatchEvent(envelope.type, obj, version, key)


def _carried(raw: bytes) -> ApiError:
    try:
        code = _CODE.decode(raw).code
    except (msgspec.MsgspecError, UnicodeDecodeError):
        code = 0
    return error(code or 500, raw)
