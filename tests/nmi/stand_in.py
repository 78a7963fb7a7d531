"""A stand-in for the metadata service on a real socket, which counts what reaches it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from tests.nmi.fakes import jwt

from podidentity.azure.imds import ImdsClient


class StandIn:
    """Answers tokens by resource id and one document for everything else; ``targets`` are all that came.

    The answers in ``raw``, whole ones as bytes, come first.
    """

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._clients: list[ImdsClient] = []
        self.port = 0
        self.raw: list[bytes] = []

    def client(self, environ: Mapping[str, str] | None = None) -> ImdsClient:
        """Return a client of the agent that talks to it; closed at the end."""
        client = ImdsClient(f"http://127.0.0.1:{self.port}", environ=environ or {})
        self._clients.append(client)
        return client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StandIn]:
        """Listen on a free port of loopback for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            for client in self._clients:
                await client.close()
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while start := await reader.readuntil(b"\r\n\r\n"):
                target = start.split(b" ")[1].decode()
                self.targets.append(target)
                if self.raw:
                    writer.write(self.raw.pop(0))
                    continue
                body = json.dumps(answer(target)).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def answer(target: str) -> dict[str, object]:
    """Return what the metadata service says to a target."""
    parts = urlsplit(target)
    if not parts.path.endswith("/oauth2/token"):
        return {"compute": {}}
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    whose = f"client-of-{query['msi_res_id'].rpartition('/')[2]}"
    return {
        "access_token": jwt(oid=f"oid-of-{whose}"),
        "client_id": whose,
        "expires_in": "86399",
        "expires_on": str(int(time.time()) + 86399),
        "ext_expires_in": "86399",
        "not_before": "1",
        "resource": query["resource"],
        "token_type": "Bearer",
    }
