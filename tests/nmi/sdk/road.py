"""Between an SDK and the agent, where the node's redirect would be; and the SDKs, started as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
RESOURCE: Final = re.compile(rb"resource=https(?::|%3A)(?:/|%2F){2}([a-z0-9-]+)\.test")


@dataclass(frozen=True, slots=True)
class Way:
    """How requests of one row go on: to which port, from which pod's address, with what header lines added."""

    port: int
    source: str
    header: bytes = b""


class Road:
    """Sends each request on as the row its resource names; a row without a way gets its connection reset."""

    def __init__(self, ways: Mapping[str, Way]) -> None:
        self.tries: Counter[str] = Counter()
        self._ways = ways
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Road]:
        """Listen on a free port of loopback."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                named = RESOURCE.search(request)
                assert named is not None
                row = named[1].decode()
                self.tries[row] += 1
                way = self._ways.get(row)
                if way is None:
                    writer.transport.abort()
                    return
                answer = await _through(way, request)
                writer.write(answer)
                if b"connection: close" in answer.lower():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _through(way: Way, request: bytes) -> bytes:
    """Ask once, on a connection of its own; the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port, local_addr=(way.source, 0))
    try:
        first, _, rest = request.partition(b"\r\n")
        rest = re.sub(rb"(?i)^host:[^\r]*", b"Host: 169.254.169.254", rest, flags=re.MULTILINE)
        writer.write(first + b"\r\n" + way.header + rest)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return head + await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an SDK made of a row: the name of what it raised, or ``token``; tries; seconds it would have waited.

    ``words``: what it said, or the token.
    """

    name: str
    tries: int
    waited: float
    words: str


def python_command() -> list[str]:
    """How azure-identity is started."""
    return [sys.executable, str(HERE / "python_client.py")]


def javascript_command() -> list[str]:
    """How @azure/identity is started; skips the test where it has not been built."""
    node = shutil.which("node")
    if node is None or not (javascript_modules() / "@azure/identity").exists():
        pytest.skip("the JavaScript SDK is not there; make sdk-js installs it")
    return [node, str(HERE / "javascript_client.cjs")]


def javascript_modules() -> Path:
    """Where tools/sdk-js/build puts packages."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podidentity/sdk-js/node_modules"


async def outcomes(
    command: list[str], ways: Mapping[str, Way], rows: Iterable[str], named: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, Outcome]:
    """Let one SDK ask for a token of every row; ``named``: how a row names its identity, and by which id."""
    how = named or {}
    asked = []
    for row in rows:
        by, identity = how.get(row, ("", ""))
        asked.append({"row": row, "resource": f"https://{row}.test", "by": by, "id": identity})
    async with Road(ways).open() as road:
        environ = {
            **os.environ,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://127.0.0.1:{road.port}",
            "NO_PROXY": "*",
            "NODE_PATH": str(javascript_modules()),
        }
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environ
        )
        try:
            output, _ = await process.communicate(json.dumps(asked).encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        found = [json.loads(line) for line in output.splitlines()]
        return {
            one["row"]: Outcome(one["outcome"], road.tries[one["row"]], one["waited"], one["words"]) for one in found
        }
