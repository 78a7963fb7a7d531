"""Audit lines as OpenTelemetry log records: OTLP over HTTP with JSON, ``POST <collector>/v1/logs``.

The wire format is one small document, so no SDK is behind it. Each line becomes the body of a record; its fields are
the record's attributes as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus

import aiohttp
import msgspec

from podidentity.telemetry.audit import SinkFailed

_SECONDS = 10.0
_INFO = 9
"""SeverityNumber of INFO."""


def document(lines: Sequence[bytes], resource: Mapping[str, str]) -> bytes:
    """Return the request's body (pure)."""
    scope = {"scope": {"name": "podidentity.audit"}, "logRecords": [_record(line) for line in lines]}
    logs = {"resource": {"attributes": _attributes(resource)}, "scopeLogs": [scope]}
    return msgspec.json.encode({"resourceLogs": [logs]})


def _record(line: bytes) -> Mapping[str, object]:
    fields: dict[str, object] = msgspec.json.decode(line)
    nanoseconds = str(round(datetime.fromisoformat(str(fields["last"])).timestamp() * 1e3) * 1_000_000)
    return {
        "timeUnixNano": nanoseconds,
        "severityNumber": _INFO,
        "severityText": "INFO",
        "body": {"stringValue": line.decode()},
        "attributes": _attributes(fields),
    }


def _attributes(fields: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}}
        for key, value in fields.items()
    ]


class OtlpSink:
    """Sends to ``url``, to which ``/v1/logs`` is added. Follows no redirect and takes no proxy from the environment."""

    def __init__(self, url: str, resource: Mapping[str, str]) -> None:
        self._url = f"{url.rstrip('/')}/v1/logs"
        self._resource = resource
        self._session: aiohttp.ClientSession | None = None
        self._sending: asyncio.Task[None] | None = None

    async def write(self, lines: Sequence[bytes]) -> None:
        """Send; once begun it is not cancelled."""
        self._sending = asyncio.create_task(self._send(document(lines, self._resource)))
        await asyncio.shield(self._sending)

    async def close(self) -> None:
        """Wait for what is being sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
            self._sending.exception()
        if self._session is not None:
            await self._session.close()

    async def _send(self, body: bytes) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=False)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SinkFailed(f"{self._url}: {error or type(error).__name__}") from error
        if status != HTTPStatus.OK:
            raise SinkFailed(f"{self._url} answered {status}")
