"""Watches over real sockets: framing, garbage, silence, 410."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from podidentity.api.resources import PODS
from podidentity.kube.client import IN_FLIGHT, KubeClient
from podidentity.kube.errors import (
    Gone,
    KubeError,
    KubeUnavailable,
    WatchSilent,
)
from podidentity.kube.settings import KubeSettings

if TYPE_CHECKING:
    from tests.kube.conftest import Hook, Served

PODS_PATH = "/api/v1/pods"


@asynccontextmanager
async def opened(settings: KubeSettings, **options: object) -> AsyncIterator[KubeClient]:
    """A client with a repeatable random source."""
    async with KubeClient(settings, user_agent="tests/1", rng=random.Random(1), **options) as client:  # type: ignore[arg-type]
        yield client


def pod(name: str, **meta: object) -> dict[str, object]:
    """A pod as JSON."""
    return {"metadata": {"name": name, "namespace": "ns", **meta}, "status": {"podIP": "10.0.0.1"}}


async def test_watch_events(served: Served) -> None:
    """Added, modified and deleted objects arrive typed and in order, from the version asked for."""
    await served.api.put(PODS_PATH, pod("before"))
    version = str(served.api.version)
    async with opened(served.settings) as client:
        await served.api.put(PODS_PATH, pod("p"))
        await served.api.put(PODS_PATH, pod("p", labels={"a": "b"}))
        await served.api.drop(PODS_PATH, "ns/p")
        seen: list[tuple[str, str]] = []
        watch = client.watch(PODS, resource_version=version, timeout=5)
        async for event in watch:
            seen.append((event.type, event.key))
            assert event.object is not None
            if len(seen) == 3:
                break
        await watch.aclose()
    assert seen == [("ADDED", "ns/p"), ("MODIFIED", "ns/p"), ("DELETED", "ns/p")]
    assert "allowWatchBookmarks=true" in served.api.requests[-1]
    assert "timeoutSeconds=5" in served.api.requests[-1]


def stream(*chunks: bytes, cut: bool = False, pause: float = 0.01) -> Hook:
    """A hook that streams these chunks; ``cut`` ends the connection in the middle."""

    async def hook(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(pause)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return hook


BOOKMARK = b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12"}}}\n'


async def collect(client: KubeClient, **options: float) -> list[str]:
    """The types of all events of a watch."""
    return [event.type async for event in client.watch(PODS, resource_version="1", **{"timeout": 5, **options})]


async def test_watch_in_pieces(served: Served) -> None:
    """Events cut at any byte, blank lines and several in one packet are put together."""
    served.api.hooks.append(
        stream(*(BOOKMARK[i : i + 7] for i in range(0, len(BOOKMARK), 7)), b"\n" + BOOKMARK * 3, pause=0)
    )
    async with opened(served.settings) as client:
        assert await collect(client) == ["BOOKMARK"] * 4


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\n", b"{}\n", b"[1]\n", b'{"type":"ADDED"}\n', b'{"type":"ADDED","object":[]}\n', b"\xff\xfe\xfd\n",
        b'{"type":"SURPRISE","object":{}}\n', b'{"type":"ADDED","object":{"metadata":{"name":7}}}\n',
        b'{"type":"ERROR","object":[]}\n',
        b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
async def test_watch_garbage(served: Served, garbage: bytes) -> None:
    """A line that is no event is a KubeError after the events before it."""
    served.api.hooks.append(stream(BOOKMARK + garbage))
    async with opened(served.settings) as client:
        events = client.watch(PODS, resource_version="1", timeout=5)
        assert (await anext(events)).type == "BOOKMARK"
        with pytest.raises(KubeError):
            await anext(events)


@pytest.mark.parametrize("cut", [False, True])
async def test_watch_closed_in_the_middle_of_a_line(served: Served, cut: bool) -> None:
    """Half an event, with or without a proper end of the answer, is an error, not an event."""
    served.api.hooks.append(stream(BOOKMARK + BOOKMARK[:30], cut=cut))
    async with opened(served.settings) as client:
        with pytest.raises(KubeUnavailable):
            await collect(client)


async def test_watch_of_endless_line(served: Served) -> None:
    """A line that never ends is given up at the limit, not collected until memory is gone."""
    served.api.hooks.append(stream(*([b"x" * (1 << 20)] * 10), pause=0))
    async with opened(served.settings) as client:
        with pytest.raises(KubeUnavailable, match="more than"):
            await collect(client)


async def test_watch_big_event(served: Served) -> None:
    """An event of 3 MB, more than etcd can store, is still read."""
    big = BOOKMARK.replace(b'"kind"', b'"pad":"' + b"x" * 3_000_000 + b'","kind"')
    served.api.hooks.append(stream(big))
    async with opened(served.settings) as client:
        assert await collect(client) == ["BOOKMARK"]


async def test_watch_that_says_nothing(served: Served) -> None:
    """A silent watch ends at the idle deadline with an error of its own."""
    async with opened(served.settings) as client:
        with pytest.raises(WatchSilent):
            await collect(client, idle=0.2)


async def test_watches_take_nothing_from_requests(served: Served) -> None:
    """Protects a client with many watches: however many are open, a request has a connection."""
    many = 3 * IN_FLIGHT

    async def follow(client: KubeClient, version: int) -> None:
        async for _ in client.watch(PODS, resource_version=str(version), timeout=60):
            pass

    async with opened(served.settings) as client:
        watches = [asyncio.ensure_future(follow(client, version)) for version in range(many)]
        async with asyncio.timeout(20):
            while len(served.api.requests) < many:  # noqa: ASYNC110 - what is waited for happens over a socket
                await asyncio.sleep(0.01)
            await client.list(PODS)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def test_watch_gone(served: Served) -> None:
    """Both ways of saying 410, as an event and as a status, are Gone."""
    served.api.oldest = 50
    async with opened(served.settings) as client:
        with pytest.raises(Gone):
            await collect(client)
        served.api.fail(410, "Expired")
        with pytest.raises(Gone):
            await collect(client)


async def test_watch_object_that_does_not_fit(served: Served) -> None:
    """One object of another shape is an UNREADABLE event with its key; the watch goes on."""
    bad = b'{"type":"MODIFIED","object":{"metadata":{"name":"p","namespace":"ns"},"spec":{"nodeName":7}}}\n'
    served.api.hooks.append(stream(bad + BOOKMARK))
    async with opened(served.settings) as client:
        events = [event async for event in client.watch(PODS, resource_version="1", timeout=5)]
    assert [(event.type, event.key) for event in events] == [("UNREADABLE", "ns/p"), ("BOOKMARK", "")]
