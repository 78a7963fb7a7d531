"""Reads the corpus of raw requests (its README.md says the form), and reads answers off a connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.nmi.conftest import Reply

FOLDER: Final = Path(__file__).parent / "corpus"
GOOD: Final = "Host: 169.254.169.254\r\nMetadata: true\r\n"
_PIECES: Final = {
    "T": "/metadata/identity/oauth2/token",
    "Q": "?api-version=2018-02-01&resource=https://vault.azure.net",
    "GOOD": GOOD,
    "END": f" HTTP/1.1\r\n{GOOD}\r\n",
}
_PIECE: Final = re.compile(r"\{(?:(?P<name>[A-Z]+)|(?P<letter>[a-zA-Z])\*(?P<times>\d+))\}")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-f]{2})|([rnt\\]))")
_LETTERS: Final = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Case:
    """One line: ``raw`` is sent; ``statuses`` come back, and the connection ends if ``closes``."""

    where: str
    statuses: tuple[int, ...]
    closes: bool
    words: str
    raw: bytes

    @property
    def documents(self) -> int:
        """How many documents the metadata service is asked for."""
        return self.words.count("document")


def cases() -> Iterator[Case]:
    """Every case of the corpus."""
    for path in sorted(FOLDER.glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line and not line.startswith("#"):
                statuses, words, raw = (part.strip(" ") if n < 2 else part for n, part in enumerate(line.split("|", 2)))
                yield Case(
                    f"{path.name}:{number}",
                    tuple(int(status) for status in statuses.rstrip("!").split(",") if status),
                    statuses.endswith("!"),
                    words,
                    _bytes(raw[1:]),
                )


def _bytes(text: str) -> bytes:
    """What a case sends."""
    escaped = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _LETTERS[match[2]], text)
    return _PIECE.sub(_piece, escaped).encode("latin-1")


def _piece(match: re.Match[str]) -> str:
    return _PIECES[match["name"]] if match["name"] else match["letter"] * int(match["times"])


async def read_bare(reader: asyncio.StreamReader) -> Reply:
    """Read one answer to a request that may have been a HEAD: a body follows only where one may."""
    start = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = start.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(int(first.split()[1]), headers, b"")


async def read_answer(reader: asyncio.StreamReader, *, head: bool) -> Reply:
    """Read one answer; ``head`` says that its body is not sent."""
    reply = await read_bare(reader)
    length = 0 if head else int(reply.headers.get("content-length", "0"))
    return Reply(reply.status, reply.headers, await reader.readexactly(length))
