"""Health and metrics over HTTP, each on its own port."""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from podidentity.config.errors import ConfigError
from podidentity.telemetry.metrics import CONTENT_TYPE
from podidentity.telemetry.ports import holder_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_KEEPALIVE: Final = 5.0


def health_app(path: str, check: Callable[[], Awaitable[None]]) -> web.Application:
    """Return the health route: 200 ``ok``, or 503 with the text of the OSError that ``check`` raises."""

    async def healthz(_request: web.Request) -> web.Response:
        try:
            await check()
        except OSError as error:
            return web.Response(text=f"{error}\n", status=503)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", path, healthz)
    return app


def metrics_app(render: Callable[[], bytes]) -> web.Application:
    """Return the metrics route."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_route("*", "/metrics", metrics)
    return app


@asynccontextmanager
async def listening(app: web.Application, port: int, *, host: str | None = None) -> AsyncIterator[int]:
    """Serve while entered; gives the port (0 takes a free one). ConfigError when it cannot be had."""
    listener = _listener(host, port)
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, keepalive_timeout=_KEEPALIVE, shutdown_timeout=0.5
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield int(listener.getsockname()[1])
    finally:
        await runner.cleanup()


def _listener(host: str | None, port: int) -> socket.socket:
    try:
        if host is None and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server((host or "", port))
    except OSError as error:
        holder = holder_of(port) if error.errno == errno.EADDRINUSE else ""
        by = f" by {holder}" if holder else ""
        text = f"is in use{by}; free it or choose another" if error.errno == errno.EADDRINUSE else f"{error.strerror}"
        raise ConfigError(f"port {port} {text}") from error
