"""Listeners around an :class:`Api`: TCP and Unix sockets, TLS by default."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from podidentity.lab.kube.api import MAX_BODY, Api
from podidentity.lab.kube.config import ApiConfig, throwaway_certificate, throwaway_context
from podidentity.lab.kube.housekeeping import keep_house
from podidentity.lab.kube.users import MASTERS, User

_GRACE, _KEEP_ALIVE = 2.0, 300.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens. ``ca`` is PEM text ("" without TLS); ``admin_token`` is of group system:masters."""

    url: str
    ca: str
    admin_token: str
    api: Api
    ports: tuple[int, ...]

    def forget_history(self) -> None:
        """Watches that ask for a revision of before now get 410, as after a compaction."""
        self.api.store.forget()

    def end_watches(self) -> None:
        """End every open watch in an orderly way."""
        self.api.streams.end()


@asynccontextmanager
async def serve(config: ApiConfig | None = None) -> AsyncIterator[Running]:
    """Serve until the block is left; raises OSError when an address is taken."""
    config = config or ApiConfig()
    admin = secrets.token_urlsafe(24)
    config = replace(config, tokens={admin: User("admin", (MASTERS,)), **config.tokens})
    api = Api(config)
    context = None if config.plain else config.tls.context() if config.tls else throwaway_context()
    loop = asyncio.get_running_loop()
    server = web.Server(
        api.handle,
        request_factory=_request_factory(loop),
        handler_cancellation=True,
        keepalive_timeout=_KEEP_ALIVE,
        access_log=None,
    )
    async with AsyncExitStack() as stack:
        stack.callback(api.close)
        await stack.enter_async_context(api.kubelets)
        await stack.enter_async_context(api.pods)
        stack.push_async_callback(server.shutdown, _GRACE)
        stack.callback(api.streams.end)
        ports: list[int] = []
        for host, port in config.listen:
            listener = await loop.create_server(server, host, port, ssl=context, backlog=1024)
            stack.callback(listener.close)
            ports.append(listener.sockets[0].getsockname()[1])
        if config.unix:
            config.unix.unlink(missing_ok=True)
            listener = await loop.create_unix_server(server, config.unix, ssl=context, backlog=1024)
            stack.callback(listener.close)
        host = config.listen[0][0] if config.listen else "localhost"
        scheme = "http" if config.plain else "https"
        url = f"{scheme}://{host}:{ports[0]}" if ports else f"{scheme}://{host}"
        async with asyncio.TaskGroup() as group:
            house = group.create_task(keep_house(api.store, config.now))
            try:
                yield Running(url, _ca(config), admin, api, tuple(ports))
            finally:
                house.cancel()


def _request_factory(loop: asyncio.AbstractEventLoop) -> Callable[..., web.BaseRequest]:
    """Aiohttp's own, with the real server's limit on bodies."""

    def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)

    return make


def _ca(config: ApiConfig) -> str:
    if config.plain:
        return ""
    if config.tls is None:
        return throwaway_certificate()[0].decode()
    return Path(config.tls.client_ca or config.tls.cert).read_text()
