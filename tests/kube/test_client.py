"""The client over real sockets against a server that misbehaves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from podidentity.api.core import ConfigMap, Pod
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import CONFIG_MAPS, NODES, PODS
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    KubeError,
    KubeUnavailable,
    NotFound,
)
from podidentity.kube.settings import KubeSettings

if TYPE_CHECKING:
    from tests.kube.conftest import Served

PODS_PATH = "/api/v1/pods"


@asynccontextmanager
async def opened(settings: KubeSettings, **options: object) -> AsyncIterator[KubeClient]:
    """A client with a repeatable random source."""
    async with KubeClient(settings, user_agent="tests/1", rng=random.Random(1), **options) as client:  # type: ignore[arg-type]
        yield client


def pod(name: str, **meta: object) -> dict[str, object]:
    """A pod as JSON."""
    return {"metadata": {"name": name, "namespace": "ns", **meta}, "status": {"podIP": "10.0.0.1"}}


async def test_every_operation(served: Served) -> None:
    """Create, get, list, replace, both patches, delete and the version work and carry our user agent."""
    async with opened(served.settings) as client:
        assert await client.server_version() == "v1.34.4"
        made = await client.create(
            CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c", namespace="ns"), data={"a": "1"})
        )
        assert made.kind == "ConfigMap"
        assert made.metadata.uid
        assert (await client.get(CONFIG_MAPS, "c", "ns")).data == {"a": "1"}
        found = await client.list(CONFIG_MAPS, namespace="ns")
        assert [one.key for one in found.items] == ["ns/c"]
        patched = await client.patch_merge(CONFIG_MAPS, "c", "ns", {"data": {"b": "2"}})
        assert patched.data == {"a": "1", "b": "2"}
        with pytest.raises(Conflict):
            await client.replace(CONFIG_MAPS, made)
        await client.replace(CONFIG_MAPS, patched)
        await client.patch_json(CONFIG_MAPS, "c", "ns", [{"op": "test", "path": "/data/a", "value": "1"}])
        assert served.api.bodies[-1][0] == "application/json-patch+json"
        await client.patch_merge(CONFIG_MAPS, "c", "ns", {}, subresource="status")
        assert served.api.requests[-1].endswith("/configmaps/c/status")
        with pytest.raises(AlreadyExists):
            await client.create(CONFIG_MAPS, made)
        with pytest.raises(Conflict):
            await client.delete(CONFIG_MAPS, "c", "ns", uid="another")
        assert await client.delete(CONFIG_MAPS, "c", "ns", uid=made.metadata.uid) is None
        with pytest.raises(NotFound):
            await client.get(CONFIG_MAPS, "c", "ns")
        assert served.api.headers[0]["User-Agent"] == "tests/1"
        assert b"v1.34.4" in await client.raw("GET", "/version", params={"timeout": "32s"})


async def test_delete_gives_a_terminating_object(served: Served) -> None:
    """An object with a finalizer comes back from delete, so that the caller sees it is not gone."""
    await served.api.put("/api/v1/namespaces/ns/pods", pod("p", finalizers=["f"]))
    async with opened(served.settings) as client:
        left = await client.delete(PODS, "p", "ns")
    assert left is not None
    assert left.metadata.deletion_timestamp == "2026-01-01T00:00:00Z"


async def test_items_of_lists_have_a_kind(served: Served) -> None:
    """The API leaves kind and apiVersion out of list items; Events need them, so they are filled in."""
    await served.api.put(PODS_PATH, pod("p"))
    async with opened(served.settings) as client:
        (found,) = (await client.list(PODS)).items
    assert (found.kind, found.api_version) == ("Pod", "v1")


async def test_list_pages(served: Served) -> None:
    """A list follows ``continue`` and passes the selectors on each page."""
    served.api.page = 2
    for number in range(5):
        await served.api.put(PODS_PATH, pod(f"p{number}"))
    async with opened(served.settings) as client:
        found = await client.list(PODS, label_selector="a=b,c", field_selector="spec.nodeName=n")
    assert [one.name for one in found.items] == ["p0", "p1", "p2", "p3", "p4"]
    assert len(served.api.requests) == 3
    assert all("labelSelector=a%3Db%2Cc&fieldSelector=spec.nodeName%3Dn" in one for one in served.api.requests)


async def test_list_expired_half_way(served: Served) -> None:
    """A 410 for a continue token starts the list again, in one piece, without doubling what came before."""
    served.api.page = 2
    for number in range(5):
        await served.api.put(PODS_PATH, pod(f"p{number}"))
    served.api.pass_one()
    served.api.fail(410, "Expired")
    async with opened(served.settings) as client:
        found = await client.list(PODS)
    assert [one.name for one in found.items] == ["p0", "p1", "p2", "p3", "p4"]
    assert "limit" not in served.api.requests[-1]


async def test_one_unreadable_object_does_not_hide_the_others(served: Served) -> None:
    """An object that does not fit its type is named and left out; everybody else is served."""
    await served.api.put(PODS_PATH, pod("good"))
    await served.api.put(PODS_PATH, {"metadata": {"name": "bad", "namespace": "ns"}, "spec": {"nodeName": 7}})
    async with opened(served.settings) as client:
        found = await client.list(PODS)
    assert [one.name for one in found.items] == ["good"]
    assert len(found.unreadable) == 1
    assert found.unreadable[0].startswith("ns/bad: ")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb"])
async def test_impossible_names_never_leave(served: Served, name: str) -> None:
    """A name that would change the path (a Secret's name comes from users) is NotFound without a request."""
    async with opened(served.settings) as client:
        with pytest.raises(NotFound):
            await client.get(PODS, name, "ns")
        with pytest.raises(NotFound):
            await client.get(PODS, "p", name)
    assert served.api.requests == []


async def test_reads_are_retried(served: Served) -> None:
    """A read rides out 500, 503 and 429 without a word."""
    served.api.fail(500)
    served.api.fail(503, "ServiceUnavailable", Retry_After="0")
    served.api.fail(429, "TooManyRequests", Retry_After="0")
    async with opened(served.settings) as client:
        assert (await client.list(NODES)).items == ()
    assert len(served.api.requests) == 4


async def test_reads_give_up(served: Served) -> None:
    """A read that always fails ends with the API's error and tells the callback once."""
    for _ in range(4):
        served.api.fail(500, "InternalError")
    told: list[tuple[str, KubeError]] = []
    async with opened(served.settings, on_error=lambda what, error: told.append((what, error))) as client:
        with pytest.raises(ApiError) as caught:
            await client.list(NODES)
    assert caught.value.code == 500
    assert told == [("list nodes", caught.value)]


async def test_writes_are_not_retried_blindly(served: Served) -> None:
    """A write that got a 500 may have happened: it is not sent again. 429 with Retry-After did not: it is."""
    made = Pod(metadata=ObjectMeta(name="p", namespace="ns"))
    served.api.fail(500)
    async with opened(served.settings) as client:
        with pytest.raises(ApiError):
            await client.create(PODS, made)
        assert len(served.api.requests) == 1
        served.api.fail(503)
        with pytest.raises(ApiError):
            await client.create(PODS, made)
        assert len(served.api.requests) == 2
        served.api.fail(429, Retry_After="1")
        started = time.monotonic()
        await client.create(PODS, made)
        assert len(served.api.requests) == 4
        assert time.monotonic() - started >= 1


async def test_long_retry_after_is_the_callers(served: Served) -> None:
    """A Retry-After of an hour does not hold the caller for an hour; the error says it."""
    served.api.fail(429, Retry_After="3600")
    async with opened(served.settings) as client:
        with pytest.raises(ApiError) as caught:
            await client.list(PODS)
    assert caught.value.retry_after == 3600


async def test_write_is_retried_when_never_sent(served: Served, unused_tcp_port: int) -> None:
    """Connection refused means nothing happened: a write is tried again, and the error says what was dialled."""
    settings = KubeSettings(server=f"http://127.0.0.1:{unused_tcp_port}")
    async with opened(settings) as client:
        started = time.monotonic()
        with pytest.raises(KubeUnavailable, match=f"create pods.*{unused_tcp_port}") as caught:
            await client.create(PODS, Pod(metadata=ObjectMeta(name="p", namespace="ns")))
    assert caught.value.sent is False
    assert time.monotonic() - started > 0.5


async def test_write_cut_off_is_not_retried(served: Served) -> None:
    """A connection that dies after the request went out leaves the caller to look what happened."""

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    served.api.hooks.append(cut)
    async with opened(served.settings) as client:
        with pytest.raises(KubeUnavailable) as caught:
            await client.create(PODS, Pod(metadata=ObjectMeta(name="p", namespace="ns")))
    assert caught.value.sent
    assert len(served.api.requests) == 1


async def test_silent_server_times_out(served: Served) -> None:
    """A server that takes the request and says nothing costs the timeout, not for ever."""

    async def hang(_: web.Request) -> None:
        await asyncio.sleep(30)

    served.api.hooks.append(hang)
    async with opened(served.settings, timeout=0.2) as client:
        with pytest.raises(KubeUnavailable, match="no answer in time"):
            await client.create(PODS, Pod(metadata=ObjectMeta(name="p", namespace="ns")))


@pytest.mark.parametrize(
    "body", [b"", b"<html>login</html>", b"[]", b'{"items": 3}', b"\xff\xfe", b'{"items":[{"metadata":{}}', b"null"]
)
async def test_answers_that_are_no_kubernetes(served: Served, body: bytes) -> None:
    """A proxy's login page or half an answer is KubeUnavailable, not a crash and not an empty list."""
    for _ in range(4):
        served.api.answer(lambda: web.Response(body=body, content_type="application/json"))
    async with opened(served.settings) as client:
        with pytest.raises(KubeUnavailable):
            await client.list(PODS)
        with pytest.raises(KubeUnavailable):
            await client.get(PODS, "p", "ns")
        with pytest.raises(KubeUnavailable):
            await client.server_version()


async def test_errors_that_are_no_status(served: Served) -> None:
    """Plain text errors and redirects become ApiErrors with that text, bounded."""
    served.api.answer(lambda: web.Response(status=403, text="no\n" + "x" * 100_000))
    served.api.answer(lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}))
    async with opened(served.settings) as client:
        with pytest.raises(Forbidden, match="no") as caught:
            await client.get(PODS, "p", "ns")
        assert len(str(caught.value)) < 1100
        with pytest.raises(ApiError) as moved:
            await client.get(PODS, "p", "ns")
        assert moved.value.code == 302


async def test_qps(served: Served) -> None:
    """The budget of requests is kept: a burst, then so many a second."""
    async with opened(served.settings, qps=20, burst=2) as client:
        started = time.monotonic()
        for _ in range(6):
            await client.server_version()
    assert 0.15 <= time.monotonic() - started < 2


async def test_refusals_slow_all_requests_down(served: Served) -> None:
    """After a 429 fewer requests are in flight at a time; none is lost, and each waits the Retry-After it was told."""
    busy, most, refused = 0, [0, 0], False

    async def hook(_: web.Request) -> web.StreamResponse | None:
        nonlocal busy, refused
        busy += 1
        most[refused] = max(most[refused], busy)
        await asyncio.sleep(0.05)
        busy -= 1
        if len(served.api.requests) < 40:
            return None
        refused, was = True, refused
        return None if was else web.json_response({"code": 429}, status=429, headers={"Retry-After": "1"})

    served.api.hooks.extend([hook] * 200)
    async with opened(served.settings) as client:
        await asyncio.gather(*(client.list(NODES) for _ in range(60)))
        assert most[0] == 24
        most[1] = 0
        await asyncio.gather(*(client.list(NODES) for _ in range(30)))
    assert most[1] < 24
