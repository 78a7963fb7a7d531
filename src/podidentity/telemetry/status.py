"""Health, readiness and metrics over HTTP."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec
from aiohttp import web

from podidentity.config.errors import ConfigError
from podidentity.telemetry.metrics import CONTENT_TYPE, Metrics
from podidentity.telemetry.ports import holder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from aiohttp.web_protocol import RequestHandler

_BACKLOG: Final = 64
_MAX_LINE: Final = 2048


@dataclass(frozen=True)
class Probe:
    """What the probes answer: the body of ``/healthz``, and why the process is not ready (nothing: it is).

    ``status``: the JSON object of ``/status``, for people; None: there is none. Whoever reaches the port reads it.
    ``ready_path``: where readiness is asked for, one of its own when another program of the node may have the port.
    """

    body: Callable[[], str]
    not_ready: Callable[[], Sequence[str]]
    status: Callable[[], Mapping[str, object]] | None = None
    ready_path: str = "/readyz"


def build_app(probe: Probe | None, metrics: Metrics | None) -> web.Application:
    """Give the routes, not listening: ``/healthz`` (always 200), readiness (200 or 503), ``/status``, metrics."""

    async def healthz(_request: web.Request) -> web.Response:
        assert probe is not None
        return _text(probe.body())

    async def readyz(_request: web.Request) -> web.Response:
        assert probe is not None
        reasons = probe.not_ready()
        return _text("\n".join(reasons) + "\n", status=503) if reasons else _text("ok")

    async def render(_request: web.Request) -> web.Response:
        assert metrics is not None
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE, "Server": "podidentity"})

    async def status(_request: web.Request) -> web.Response:
        assert probe is not None
        assert probe.status is not None
        text = msgspec.json.format(msgspec.json.encode(probe.status()), indent=2) + b"\n"
        return web.Response(body=text, content_type="application/json", headers={"Server": "podidentity"})

    app = web.Application()
    if probe is not None and probe.status is not None:
        app.router.add_get("/status", status)
    if probe is not None:
        app.router.add_route("*", "/healthz", healthz)
        app.router.add_route("*", probe.ready_path, readyz)
    if metrics is not None:
        app.router.add_route("*", "/metrics", render)
    return app


def _text(body: str, status: int = 200) -> web.Response:
    return web.Response(text=body, status=status, headers={"Server": "podidentity"})


def _listen(host: str | None, port: int) -> socket.socket:
    """Bind and listen: one socket for IPv4 and IPv6 when no host is given and the machine has IPv6."""
    if host is None and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    family = socket.AF_INET6 if host is not None and ":" in host else socket.AF_INET
    return socket.create_server((host or "", port), family=family, backlog=_BACKLOG)


def _listen_at(path: str) -> socket.socket:
    """Bind a Unix socket and listen; one that is there already was a former process's."""
    with suppress(FileNotFoundError):
        Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def refusal(host: str | None, port: int, error: OSError) -> str:
    """Say in one line why that port could not be had."""
    where = f"port {port}" if host is None else f"{host} port {port}"
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        return f"{where} is in use{f' by {holder}' if holder else ''}; free it or choose another"
    if error.errno == errno.EACCES:
        return f"{where} needs more rights than this process has; choose one above 1023"
    return f"cannot listen on {where}: {error.strerror or error}"


class StatusServer:
    """Async context manager that serves ``probe`` and ``metrics`` while it is entered.

    ``port`` 0 takes any free one. ``path``: a Unix socket there instead of a port. ``host`` None is every address, IPv4
    and IPv6. A connection is closed when it was idle for ``idle_seconds`` after a request, and in any case about
    ``lifetime_seconds`` after it was made. ConfigError when the port cannot be had: names who holds it.
    """

    def __init__(
        self,
        *,
        port: int,
        probe: Probe | None,
        metrics: Metrics | None,
        host: str | None = None,
        path: str = "",
        idle_seconds: float = 5.0,
        lifetime_seconds: float = 30.0,
    ) -> None:
        self._wanted = port
        self._host = host
        self._path = path
        self._idle = idle_seconds
        self._lifetime = lifetime_seconds
        self._app = build_app(probe, metrics)
        self._runner: web.AppRunner | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.port = port

    async def __aenter__(self) -> Self:
        """Listen."""
        try:
            listener = _listen_at(self._path) if self._path else _listen(self._host, self._wanted)
        except OSError as error:
            where = f"{self._path}: {error.strerror}" if self._path else refusal(self._host, self._wanted, error)
            raise ConfigError(where) from error
        if not self._path:
            self.port = listener.getsockname()[1]
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=self._idle,
            shutdown_timeout=0.5,
            max_line_size=_MAX_LINE,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=_BACKLOG).start()
        self._sweep({})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and close every connection."""
        assert self._runner is not None
        assert self._timer is not None
        self._timer.cancel()
        await self._runner.cleanup()

    def _sweep(self, before: Mapping[RequestHandler, float]) -> None:
        """Close connections that are too old: a peer that never ends its request holds none for ever."""
        assert self._runner is not None
        assert self._runner.server is not None
        loop = asyncio.get_running_loop()
        now = loop.time()
        seen = {connection: before.get(connection, now) for connection in self._runner.server.connections}
        for connection, since in seen.items():
            if now - since >= self._lifetime:
                connection.force_close()
        self._timer = loop.call_later(self._lifetime / 4, self._sweep, seen)
