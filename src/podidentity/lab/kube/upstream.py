"""What passes requests on has: a client of its own, and answers that are copied as they come."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import web

TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""Of both: 10 s to connect, then as long as it takes."""


class Upstream:
    """Async context manager around the client that ``connect`` makes."""

    def __init__(self, connect: Callable[[], aiohttp.ClientSession]) -> None:
        self._connect = connect
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the client; raises OSError or ssl.SSLError when a certificate file cannot be used."""
        self._session = self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        if self._session:
            await self._session.close()

    @property
    def client(self) -> aiohttp.ClientSession:
        """The client, inside the context only."""
        assert self._session is not None, "the proxy is used inside its context"
        return self._session


def trusting(ca: Path | None = None) -> ssl.SSLContext:
    """TLS to whoever has a certificate of ``ca``, a file; without one to anybody."""
    context = ssl.create_default_context(cafile=ca)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def copied(answer: aiohttp.ClientResponse, response: web.StreamResponse) -> bool:
    """Pass a body on as it comes; False when it broke off."""
    pieces = answer.content.iter_any()
    while True:
        try:
            piece = await anext(pieces, b"")
        except (aiohttp.ClientError, TimeoutError):
            return False
        if not piece:
            return True
        await response.write(piece)
