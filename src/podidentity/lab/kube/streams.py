"""Watch responses: one line an event, chunked, bookmarks in between, ended in an orderly way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from podidentity.lab.kube import listoptions, reading
from podidentity.lab.kube.documents import JSON
from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import encode
from podidentity.lab.kube.store import Store
from podidentity.lab.kube.tables import Tables, negotiate
from podidentity.lab.kube.target import Target, flag
from podidentity.lab.kube.watching import Form, Json, Watch, event

_EXPIRED = 410


class Streams:
    """Every open watch.

    ``bookmark_interval`` and ``timeout`` (when the client names none) are seconds, ``now`` gives those since the epoch.
    """

    def __init__(self, store: Store, *, bookmark_interval: float, timeout: float, now: Callable[[], float]) -> None:
        self._store = store
        self._bookmark_interval = bookmark_interval
        self._timeout = timeout
        self._now = now
        self._open: set[Watch] = set()

    def end(self) -> None:
        """End every watch as a server does that stops."""
        for watch in tuple(self._open):
            watch.stop()

    async def watch(self, request: web.BaseRequest, kind: Kind, target: Target) -> web.StreamResponse:
        """Answer a watch; returns when it has ended."""
        query = request.query
        listoptions.check_watch(query)
        table = negotiate(request.headers.get("Accept", ""))
        form: Form = Tables(kind, query, self._now) if table else Json(kind)
        watch = Watch(self._store, kind, form, reading.selection(kind, target, query))
        response = web.StreamResponse(headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        initial = flag(query, "sendInitialEvents")
        try:
            watch.start(None if initial else reading.revision_watched(query))
        except StatusError as error:
            if error.code != _EXPIRED:
                raise
            await response.prepare(request)
            await response.write(event("ERROR", encode(error.status())))
            return response
        if initial and flag(query, "allowWatchBookmarks"):
            watch.bookmark(initial=True)
        self._open.add(watch)
        try:
            await response.prepare(request)
            await self._stream(response, watch, query)
        finally:
            watch.stop()
            self._open.discard(watch)
        return response

    async def _stream(self, response: web.StreamResponse, watch: Watch, query: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        seconds = query.get("timeoutSeconds", "")
        end = loop.time() + (float(seconds) if seconds.isdigit() and int(seconds) else self._timeout)
        bookmarks = flag(query, "allowWatchBookmarks")
        while True:
            pause = min(end - loop.time(), self._bookmark_interval)
            try:
                async with asyncio.timeout(max(pause, 0)):
                    data = await watch.take()
            except TimeoutError:
                if loop.time() >= end:
                    return
                if bookmarks:
                    watch.bookmark()
                    await response.write(await watch.take())
                continue
            if not data:
                return
            await response.write(data)
