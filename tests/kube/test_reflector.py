"""The reflector against a server that misbehaves: the store ends up equal to the API, whatever happens."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from podidentity.api.core import Pod
from podidentity.api.resources import PODS
from podidentity.kube.client import KubeClient
from podidentity.kube.reflector import SLICE, Reflector
from podidentity.kube.store import Change, Store

if TYPE_CHECKING:
    from tests.kube.conftest import Served

PATH = "/api/v1/pods"


def pod(name: str, ip: str = "", uid: str = "") -> dict[str, Any]:
    """A pod as JSON."""
    meta = {"name": name, "namespace": "ns"} | ({"uid": uid} if uid else {})
    return {"metadata": meta, "status": {"podIP": ip}}


class Running:
    """A reflector at work and what it told."""

    def __init__(self, client: KubeClient, **options: Any) -> None:
        self.store: Store[Pod] = Store({"ip": lambda one: [one.status.pod_ip] if one.status.pod_ip else []})
        self.changes: list[Change[Pod]] = []
        self.reflector = Reflector(
            client, PODS, self.store, on_change=self.changes.append, rng=random.Random(3), **options
        )

    def told(self) -> list[tuple[str, str]]:
        """The changes as (old uid, new uid)."""
        return [
            (one.old.metadata.uid if one.old else "", one.new.metadata.uid if one.new else "") for one in self.changes
        ]


@asynccontextmanager
async def running(served: Served, **options: Any) -> AsyncIterator[Running]:
    """Run a reflector against the server."""
    async with KubeClient(served.settings, user_agent="tests", rng=random.Random(2)) as client:
        one = Running(client, **options)
        task = asyncio.get_running_loop().create_task(one.reflector.run())
        try:
            yield one
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens over a socket
            await asyncio.sleep(0.01)


async def test_lists_then_follows(served: Served) -> None:
    """What is there is listed, what changes is followed, and the indexes with it."""
    await served.api.put(PATH, pod("a", "10.0.0.1", "u1"))
    async with running(served) as one:
        assert one.reflector.age() == math.inf
        await asyncio.wait_for(one.reflector.synced.wait(), 5)
        assert [found.name for found in one.store.by_index("ip", "10.0.0.1")] == ["a"]
        await until(lambda: any("watch=true" in request for request in served.api.requests))
        await served.api.put(PATH, pod("a", "10.0.0.2", "u1"))
        await served.api.put(PATH, pod("b", "10.0.0.3", "u2"))
        await served.api.drop(PATH, "ns/a")
        await until(lambda: len(one.changes) == 4)
        assert one.told() == [("", "u1"), ("u1", "u1"), ("", "u2"), ("u1", "")]
        assert one.store.by_index("ip", "10.0.0.1") == one.store.by_index("ip", "10.0.0.2") == ()
        assert len(one.store) == 1
        assert one.reflector.age() < 5


async def test_a_large_list_lets_others_have_their_turn(served: Served) -> None:
    """Protects probes and the renewal of a lead: a list of many objects is told in parts, between which others run."""
    for number in range(2 * SLICE + 10):
        await served.api.put(PATH, pod(f"p{number}"))
    async with running(served) as one:
        told = []
        while not one.reflector.synced.is_set():
            told.append(len(one.changes))
            await asyncio.sleep(0)
        told.append(len(one.changes))
    assert told[-1] == 2 * SLICE + 10
    assert max(after - before for before, after in pairwise(told)) <= SLICE


async def test_same_name_other_uid(served: Served) -> None:
    """A pod recreated under its name is a deletion and an addition, in the watch and over a re-list."""
    await served.api.put(PATH, pod("a", uid="u1"))
    async with running(served) as one:
        await until(lambda: len(served.api.requests) == 2)
        await served.api.put(PATH, pod("a", uid="u2"))
        await until(lambda: len(one.changes) == 3)
        assert one.told() == [("", "u1"), ("u1", ""), ("", "u2")]


async def test_gone_lists_again_and_tells_only_what_differs(served: Served) -> None:
    """After a 410 the list is compared with the store: unchanged objects are not told again."""
    for name in ("same", "changed", "deleted"):
        await served.api.put(PATH, pod(name, uid=name))

    async def missed(request: web.Request) -> web.StreamResponse:
        """Answer the watch with 410, after things happened that no watch tells."""
        await served.api.put(PATH, pod("changed", "10.0.0.9", "changed"))
        await served.api.put(PATH, pod("new", uid="new"))
        await served.api.drop(PATH, "ns/deleted")
        served.api.oldest = served.api.version
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n')
        return response

    served.api.pass_one()
    served.api.hooks.append(missed)
    async with running(served) as one:
        await until(lambda: len(one.changes) == 6)
        assert one.told()[3:] == [("deleted", ""), ("changed", "changed"), ("", "new")]
        assert len([request for request in served.api.requests if "watch" not in request]) == 2


async def test_renewed_past_a_dead_watch(served: Served) -> None:
    """Who must know that nothing was missed gets a new list at once, although the watch says nothing."""
    opened = asyncio.Event()

    async def dead(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        opened.set()
        await asyncio.sleep(60)
        return response

    served.api.pass_one()
    served.api.hooks.append(dead)
    async with running(served) as one:
        await asyncio.wait_for(opened.wait(), 10)
        await served.api.put(PATH, pod("missed"))
        assert len(one.store) == 0
        await asyncio.wait_for(one.reflector.renew(), 10)
        assert [found.name for found in one.store.values()] == ["missed"]
        await served.api.put(PATH, pod("next"))
        await until(lambda: len(one.store) == 2)


async def test_continues_from_the_last_version(served: Served) -> None:
    """A watch that the server ends is opened again from the last version seen, bookmarks included, without a list."""
    await served.api.put(PATH, pod("a"))

    async def brief(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"555"}}}\n')
        return response

    served.api.pass_one()
    served.api.hooks.append(brief)
    async with running(served) as one:
        await until(lambda: len(served.api.requests) == 3)
        assert "resourceVersion=555" in served.api.requests[2]
        assert len(one.changes) == 1


async def test_survives_everything(served: Served) -> None:
    """Refused lists, garbage, cut connections, 403, 500: the reflector tries again and ends up right."""

    async def garbage(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\xff<html>", content_type="application/json")

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    served.api.fail(403, "Forbidden")
    served.api.hooks.append(garbage)
    served.api.pass_one()
    served.api.hooks.extend([garbage, cut])
    served.api.fail(500)
    async with running(served) as one:
        await until(lambda: sum("watch" in request for request in served.api.requests) >= 2, 20)
        await served.api.put(PATH, pod("a", uid="u"))
        await until(lambda: len(one.store) == 1, 30)
        assert one.told() == [("", "u")]


async def test_silent_watch_is_opened_anew(served: Served) -> None:
    """A watch without a byte is distrusted after the idle deadline; what was missed on it arrives."""

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await served.api.put(PATH, pod("missed"))
        await asyncio.sleep(60)
        return response

    served.api.pass_one()
    served.api.hooks.append(silent)
    async with running(served, idle_deadline=0.3) as one:
        await until(lambda: len(one.store) == 1)
        assert sum("watch" not in request for request in served.api.requests) == 1


async def test_bad_object_is_as_if_deleted(served: Served) -> None:
    """An object edited into one that cannot be read leaves the store, as a fresh list would show; it comes back."""
    await served.api.put(PATH, pod("a", uid="u"))
    async with running(served) as one:
        await until(lambda: len(served.api.requests) == 2)
        bad = pod("a", uid="u") | {"spec": {"nodeName": ["?"]}}
        await served.api.put(PATH, bad)
        await until(lambda: len(one.store) == 0)
        await served.api.put(PATH, pod("a", uid="u"))
        await until(lambda: len(one.store) == 1)
        assert one.told() == [("", "u"), ("u", ""), ("", "u")]


async def test_consumer_bug_is_not_hidden(served: Served) -> None:
    """An exception of on_change ends run(): a bug of ours must not look like a quiet cluster."""
    await served.api.put(PATH, pod("a"))

    def broken(_: Change[Pod]) -> None:
        raise ZeroDivisionError

    async with KubeClient(served.settings, user_agent="tests") as client:
        with pytest.raises(ZeroDivisionError):
            await Reflector(client, PODS, Store(), on_change=broken).run()


async def test_churn_ends_equal(served: Served) -> None:
    """Hundreds of changes over watches that break at random leave the store equal to the API."""
    rng = random.Random(7)

    async def breaking(request: web.Request) -> web.StreamResponse | None:
        if request.query.get("watch") and rng.random() < 0.5:
            asyncio.get_running_loop().call_later(rng.random() * 0.2, request.transport.abort)  # type: ignore[union-attr]
        return None

    served.api.hooks.extend([breaking] * 100)
    async with running(served) as one:
        for step in range(400):
            name = f"p{rng.randrange(20)}"
            if rng.random() < 0.3 and f"ns/{name}" in served.api.objects.get(PATH, {}):
                await served.api.drop(PATH, f"ns/{name}")
            else:
                await served.api.put(PATH, pod(name, f"10.0.0.{step % 250}", f"u{step}"))
            await asyncio.sleep(0.002)

        def versions() -> dict[str, str]:
            return {found.key: found.metadata.resource_version for found in one.store.values()}

        expected = {key: obj["metadata"]["resourceVersion"] for key, obj in served.api.objects[PATH].items()}
        await until(lambda: versions() == expected, 20)
