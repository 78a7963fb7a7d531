"""Which raw request target means what (pure): an exact allow-list, everything else is refused.

Nothing is decoded, cleaned or shortened: a target that would need it is not one of ours, and is never forwarded.
Only the segment ``/metadata`` may be spelled in any case, as IMDS has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MAX_TARGET_BYTES: Final = 8192


class Kind(Enum):
    """What a request target asks for."""

    TOKEN = auto()
    HOST_TOKEN = auto()
    INSTANCE = auto()
    DOCUMENT = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` is canonical, ``query`` raw (without ``?``); ``status`` and ``reason`` belong to REFUSED."""

    kind: Kind
    path: str = ""
    query: str = ""
    status: int = 0
    reason: str = ""


_TOKEN_PATHS: Final = frozenset({"/metadata/identity/oauth2/token", "/metadata/identity/oauth2/token/"})
_HOST_TOKEN_PATHS: Final = frozenset({"/host/token", "/host/token/"})
_DOCUMENTS: Final = frozenset(
    {
        "/metadata/versions",
        "/metadata/identity/info",
        "/metadata/attested/document",
        "/metadata/scheduledevents",
        "/metadata/loadbalancer",
    }
)
_INSTANCE: Final = re.compile(r"/metadata/instance(?:/[A-Za-z0-9_-]{1,64}){0,12}/?")
_METADATA: Final = "/metadata"
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|[\\#]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS: Final = re.compile(r"/\.{1,2}(?:/|$)")


def route(target: bytes) -> Route:
    """Classify a raw request target; never raises."""
    if len(target) > MAX_TARGET_BYTES:
        return _refused(414, "request target is too long")
    text = target.decode("latin-1")
    if not text.startswith("/"):
        return _refused(400, "request target must be a path")
    if _UNSAFE.search(text):
        return _refused(400, "request target has a character that is not allowed")
    path, _, query = text.partition("?")
    if _BAD_ESCAPE.search(query):
        return _refused(400, "query has a broken percent escape")
    return _by_path(path, query)


def _by_path(path: str, query: str) -> Route:
    """Match a path of printable ASCII."""
    if "%" in path or "//" in path or _DOTS.search(path):
        return _refused(400, "path is not in its plain form")
    if path[: len(_METADATA)].lower() == _METADATA:
        path = _METADATA + path[len(_METADATA) :]
    if path in _TOKEN_PATHS:
        return Route(Kind.TOKEN, "/metadata/identity/oauth2/token", query)
    if path in _HOST_TOKEN_PATHS:
        return Route(Kind.HOST_TOKEN, "/host/token", query)
    if _INSTANCE.fullmatch(path):
        return Route(Kind.INSTANCE, path, query)
    if path in _DOCUMENTS:
        return Route(Kind.DOCUMENT, path, query)
    return _refused(404, "Not Found")


def _refused(status: int, reason: str) -> Route:
    return Route(Kind.REFUSED, status=status, reason=reason)
