"""What nmi answers: always JSON in IMDS's shape, encoded once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

JSON: Final = "application/json; charset=utf-8"


class Answer:
    """One HTTP response, encoded once however often it is sent.

    ``retry_after`` in whole seconds; ``allow`` fills the Allow header; ``close`` ends the connection after it.
    """

    __slots__ = ("_wire", "allow", "body", "close", "content_type", "retry_after", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = JSON,
        retry_after: int | None = None,
        allow: str = "",
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.retry_after = retry_after
        self.allow = allow
        self.close = close
        self._wire: dict[tuple[bool, bool], bytes] = {}

    def encode(self, *, keep_alive: bool, head: bool = False) -> bytes:
        """Return the bytes to send; ``head`` leaves the body out (its length stays)."""
        key = (keep_alive, head)
        wire = self._wire.get(key)
        if wire is None:
            wire = self._wire[key] = self._encode(keep_alive=keep_alive, head=head)
        return wire

    def _encode(self, *, keep_alive: bool, head: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}", "Cache-Control: no-store"]
        if self.status != HTTPStatus.NO_CONTENT:
            lines += [
                f"Content-Type: {self.content_type}",
                "X-Content-Type-Options: nosniff",
                f"Content-Length: {len(self.body)}",
            ]
        if self.retry_after is not None:
            lines.append(f"Retry-After: {self.retry_after}")
        if self.allow:
            lines.append(f"Allow: {self.allow}")
        lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else self.body)


class _ErrorBody(msgspec.Struct, frozen=True):
    error: str
    error_description: str


def error(
    status: int,
    description: str,
    *,
    code: str = "",
    retry_after: int | None = None,
    allow: str = "",
    close: bool = False,
) -> Answer:
    """Build an error; ``code`` is the OAuth error word, by default the one that suits the status."""
    usual = "invalid_request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    word = code or _CODES.get(status, usual)
    body = msgspec.json.encode(_ErrorBody(word, description)) + b"\n"
    return Answer(status, body, retry_after=retry_after, allow=allow, close=close)


_CODES: Final = {429: "too_many_requests", 503: "temporarily_unavailable"}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
