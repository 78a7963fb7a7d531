"""The embedded API in this process, and a client of it that is mic's own but for its sockets."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self, cast

import aiohttp
import yaml
from tests.faults.inside import LATENCY, Answer, Asked, Link, Outside, Way, plainly
from tests.faults.ledger import RECORDS, WATCHED
from yarl import URL

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import KubeSettings
from podidentity.lab.kube import reading
from podidentity.lab.kube.api import Api
from podidentity.lab.kube.config import ApiConfig
from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.objects import encode
from podidentity.lab.kube.store import Change
from podidentity.lab.kube.target import parse
from podidentity.lab.kube.users import MASTERS, User
from podidentity.lab.kube.watching import Json, Watch, event

ROOT: Final = Path(__file__).resolve().parents[2]
URL_OF_API: Final = "http://api.test"
TOKEN: Final = "admin"
BOOKMARK: Final = 60.0

Seen = Callable[[str, Mapping[str, Any], bool], None]
"""Hears of each object written (resource, object, whether it is gone)."""
Written = Callable[[str, str], None]
"""Hears of each write of a record as it arrives (sender, what)."""


@functools.cache
def crds() -> tuple[str, ...]:
    """The CRDs of the shipped manifests, as JSON."""
    documents = yaml.safe_load_all((ROOT / "deploy/deployment-rbac.yaml").read_text())
    found = (one for one in documents if one and one["kind"] == "CustomResourceDefinition")
    return tuple(json.dumps(one) for one in found)


class InsideApi:
    """The server. ``away``: nobody answers."""

    def __init__(self, clock: Clock, rng: random.Random, outside: Outside, seen: Seen, written: Written) -> None:
        admin = User("admin", (MASTERS,))
        self.api = Api(ApiConfig(plain=True, tokens={TOKEN: admin}, now=clock.wall, rng=rng))
        self.outside = outside
        self.away = False
        self.written = written
        self._streams: set[Stream] = set()
        self._seen = seen

    def listen(self) -> None:
        """Tell of what is written from now on."""
        for plural in (*WATCHED, "endpoints", "leases"):
            kind = next(one for one in self.api.catalogue.all() if one.plural == plural)
            self.api.store.listen(kind.resource, functools.partial(self._told, plural))

    def _told(self, plural: str, change: Change) -> None:
        self._seen(plural, change.now.obj(), change.type == "DELETED")

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """What the administrator asks; None where an object is not there, or is there already."""
        await asyncio.sleep(LATENCY)
        if self.away:
            raise aiohttp.ServerDisconnectedError
        patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": patch}
        asked = Asked(method, URL_OF_API + path, headers, b"" if body is None else json.dumps(body).encode())
        answer = await plainly(self.api.handle, asked)
        if answer.status in {404, 409}:
            return None
        assert answer.status < 300, answer.body
        return json.loads(answer.body)

    async def answer(self, source: str, link: Link, asked: Asked) -> Response | Stream:
        """A process's request."""
        if self.away:
            raise aiohttp.ServerDisconnectedError
        target = parse(asked.method, asked.path, asked.query)
        if target is not None and target.verb == "watch":
            return self._watch(link, asked)
        if asked.method != "GET" and target is not None and target.plural == RECORDS:
            self.written(source, f"{asked.method} {asked.path}")
        return Response(await plainly(self.api.handle, asked))

    def _watch(self, link: Link, asked: Asked) -> Stream:
        target = parse(asked.method, asked.path, asked.query)
        assert target is not None
        kind = self.api.catalogue.find(target.group, target.version, target.plural)
        assert kind is not None
        watch = Watch(self.api.store, kind, Json(kind), reading.selection(kind, target, asked.query))
        stream = Stream(watch, link, float(asked.query["timeoutSeconds"]), self._streams)
        try:
            watch.start(reading.revision_watched(asked.query))
        except StatusError as error:
            stream.say(event("ERROR", encode(error.status())))
        return stream

    def leave(self) -> None:
        """Stop answering, as a server that is restarted does."""
        self.away = True
        for stream in tuple(self._streams):
            stream.break_off()

    def forget(self) -> None:
        """Forget the history and end every watch: whoever goes on with its watch gets 410."""
        self.api.store.forget()
        for stream in tuple(self._streams):
            stream.break_off()


class Response:
    """An answer as aiohttp's client gives it."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._body = answer.body

    async def read(self) -> bytes:
        """The body."""
        return self._body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


class Stream:
    """A watch's answer: events as they come, bookmarks, an end after ``seconds``."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, watch: Watch, link: Link, seconds: float, register: set[Stream]) -> None:
        self.content = self
        self._watch = watch
        self._link = link
        self._muted = link.muted
        self._end = asyncio.get_running_loop().time() + seconds
        self._register = register
        self._broken = asyncio.Event()
        self._said = b""
        register.add(self)

    def say(self, line: bytes) -> None:
        """Say this and end."""
        self._said = line
        self._watch.stop()

    def break_off(self) -> None:
        """The connection is reset."""
        self._broken.set()
        self._watch.stop()

    async def readany(self) -> bytes:
        """What arrives next, empty at the end. Raises aiohttp.ClientPayloadError when the connection breaks."""
        data = await self._next()
        if self._muted != self._link.muted:
            await asyncio.Event().wait()
        await self._link.whole.wait()
        if self._broken.is_set() or self._link.dead:
            raise aiohttp.ClientPayloadError
        await asyncio.sleep(LATENCY)
        return data

    async def _next(self) -> bytes:
        said, self._said = self._said, b""
        if said:
            return said
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(min(self._end - loop.time(), BOOKMARK), 0)):
                return await self._watch.take()
        except TimeoutError:
            if loop.time() >= self._end:
                return b""
            self._watch.bookmark()
            return await self._watch.take()

    def close(self) -> None:
        """Nobody reads it any more."""
        self._watch.stop()
        self._register.discard(self)


class _Session:
    """Stands where the client has its aiohttp session."""

    def __init__(self, way: Way, server: InsideApi, source: str) -> None:
        self._way = way
        self._server = server
        self._source = source

    async def request(
        self, method: str, url: URL, *, data: bytes | None, headers: Mapping[str, str], **_options: object
    ) -> Response | Stream:
        """Send a request."""
        asked = Asked(method, str(url), {**headers, "Authorization": f"Bearer {TOKEN}"}, data or b"")

        async def handle(asked: Asked) -> Response | Stream:
            return await self._server.answer(self._source, self._way.link, asked)

        return await self._way.send(asked, handle)

    async def close(self) -> None:
        """Nothing is open."""


class InsideClient(KubeClient):
    """Mic's client, its parsing, retries and deadlines, with the server in the same process."""

    def __init__(self, server: InsideApi, link: Link, source: str, *, clock: Clock, fence: Fence | None = None) -> None:
        settings = KubeSettings(server=URL_OF_API)
        super().__init__(settings, user_agent=source, clock=clock, rng=random.Random(source))
        self._inside = _Session(Way(server.outside, link, fence), server, source)

    async def __aenter__(self) -> Self:
        self._session = cast("aiohttp.ClientSession", self._inside)
        return self
