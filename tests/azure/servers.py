"""A small HTTP server on a real socket: a list of answers, a list of what was asked."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Request:
    """What a client sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


Handler = Callable[[Request], Awaitable[web.Response] | web.Response]


@dataclass
class Fake:
    """``answers`` are used up one by one; then ``default`` answers."""

    url: str = ""
    asked: list[Request] = field(default_factory=list)
    answers: deque[Handler] = field(default_factory=deque)
    default: Handler = field(default=lambda _: web.Response(status=404, text="no answer prepared"))

    def add(self, *answers: Handler) -> None:
        """Prepare answers."""
        self.answers.extend(answers)


def answer(
    status: int = 200, body: object = None, headers: dict[str, str] | None = None, *, delay: float = 0.0
) -> Handler:
    """An answer: JSON for anything but bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""

    async def handler(_: Request) -> web.Response:
        await asyncio.sleep(delay)
        return web.Response(
            status=status, body=content, headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        )

    return handler


@asynccontextmanager
async def fake_server() -> AsyncIterator[Fake]:
    """A server on 127.0.0.1, port chosen by the system."""
    fake = Fake()

    async def handle(raw: web.BaseRequest) -> web.StreamResponse:
        request = Request(raw.method, raw.raw_path, {k.lower(): v for k, v in raw.headers.items()}, await raw.read())
        fake.asked.append(request)
        handler = fake.answers.popleft() if fake.answers else fake.default
        result = handler(request)
        return result if isinstance(result, web.StreamResponse) else await result

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
