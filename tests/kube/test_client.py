"""The client over real sockets against a server that misbehaves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from podidentity.api.core import ConfigMap, Pod
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import CONFIG_MAPS, NODES, PODS
from podidentity.kube.auth import FileToken, StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    KubeError,
    KubeUnavailable,
    NotFound,
    Unauthorized,
    WatchSilent,
)
from podidentity.kube.settings import KubeSettings

if TYPE_CHECKING:
    from tests.kube.conftest import Certificates, FakeApi, Served

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


def stream(*chunks: bytes, cut: bool = False, pause: float = 0.01) -> object:
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
    )  # type: ignore[arg-type]
    async with opened(served.settings) as client:
        assert await collect(client) == ["BOOKMARK"] * 4


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\n", b"{}\n", b"[1]\n", b'{"type":"ADDED"}\n', b'{"type":"ADDED","object":[]}\n', b"\xff\xfe\xfd\n",
        b'{"type":"SURPRISE","object":{}}\n', b'{"type":"ADDED","object":{"metadata":{"name":7}}}\n', b'{"type":"ERROR","object":[]}\n',
        b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
async def test_watch_garbage(served: Served, garbage: bytes) -> None:
    """A line that is no event is a KubeError after the events before it."""
    served.api.hooks.append(stream(BOOKMARK + garbage))  # type: ignore[arg-type]
    seen = []
    async with opened(served.settings) as client:
        with pytest.raises(KubeError):
            async for event in client.watch(PODS, resource_version="1", timeout=5):
                seen.append(event.type)
    assert seen == ["BOOKMARK"]


@pytest.mark.parametrize("cut", [False, True])
async def test_watch_closed_in_the_middle_of_a_line(served: Served, cut: bool) -> None:
    """Half an event, with or without a proper end of the answer, is an error, not an event."""
    served.api.hooks.append(stream(BOOKMARK + BOOKMARK[:30], cut=cut))  # type: ignore[arg-type]
    async with opened(served.settings) as client:
        with pytest.raises(KubeUnavailable):
            await collect(client)


async def test_watch_of_endless_line(served: Served) -> None:
    """A line that never ends is given up at the limit, not collected until memory is gone."""
    served.api.hooks.append(stream(*([b"x" * (1 << 20)] * 10), pause=0))  # type: ignore[arg-type]
    async with opened(served.settings) as client:
        with pytest.raises(KubeUnavailable, match="more than"):
            await collect(client)


async def test_watch_big_event(served: Served) -> None:
    """An event of 3 MB, more than etcd can store, is still read."""
    big = BOOKMARK.replace(b'"kind"', b'"pad":"' + b"x" * 3_000_000 + b'","kind"')
    served.api.hooks.append(stream(big))  # type: ignore[arg-type]
    async with opened(served.settings) as client:
        assert await collect(client) == ["BOOKMARK"]


async def test_watch_that_says_nothing(served: Served) -> None:
    """A silent watch ends at the idle deadline with an error of its own."""
    async with opened(served.settings) as client:
        with pytest.raises(WatchSilent):
            await collect(client, idle=0.2)


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
    served.api.hooks.append(stream(bad + BOOKMARK))  # type: ignore[arg-type]
    async with opened(served.settings) as client:
        events = [event async for event in client.watch(PODS, resource_version="1", timeout=5)]
    assert [(event.type, event.key) for event in events] == [("UNREADABLE", "ns/p"), ("BOOKMARK", "")]


def tls_settings(url: str, certificates: Certificates, **changes: object) -> KubeSettings:
    """Settings that trust the test's authority."""
    return KubeSettings(server=url, **{"ca_file": str(certificates.folder / "ca.crt"), **changes})  # type: ignore[arg-type]


@pytest.fixture
async def secure(certificates: Certificates, serve: object) -> AsyncIterator[tuple[FakeApi, str]]:
    """An API server with TLS."""
    async with serve(certificates.server_context()) as (api, url):  # type: ignore[operator]
        yield api, url


async def test_token_over_tls_only(secure: tuple[FakeApi, str], served: Served, certificates: Certificates) -> None:
    """The token goes over TLS, and never in clear text."""
    api, url = secure
    async with opened(tls_settings(url, certificates, token_source=StaticToken("s3cret"))) as client:
        await client.server_version()
    assert api.headers[0]["Authorization"] == "Bearer s3cret"
    async with opened(KubeSettings(server=served.url, token_source=StaticToken("s3cret"))) as client:
        await client.server_version()
    assert "Authorization" not in served.api.headers[0]


async def test_token_rotation(secure: tuple[FakeApi, str], certificates: Certificates, tmp_path: Path) -> None:
    """A rotated token file is used from the next request on; a 401 reads it once more; a lasting 401 is an error."""
    api, url = secure
    file = tmp_path / "token"
    file.write_text("one\n")
    async with opened(tls_settings(url, certificates, token_source=FileToken(file))) as client:
        await client.server_version()
        file.write_text("two\n")
        await client.server_version()
        api.fail(401, "Unauthorized")
        await client.server_version()
        file.unlink()
        await client.server_version()
        api.fail(401, "Unauthorized")
        api.fail(401, "Unauthorized")
        with pytest.raises(Unauthorized):
            await client.server_version()
    assert [one["Authorization"] for one in api.headers] == ["Bearer one", *["Bearer two"] * 6]


async def test_watch_renews_its_token(secure: tuple[FakeApi, str], certificates: Certificates, tmp_path: Path) -> None:
    """A watch that meets a 401 opens again with a newer token."""
    api, url = secure
    (tmp_path / "token").write_text("one")
    api.fail(401, "Unauthorized")
    api.hooks.append(stream(BOOKMARK))  # type: ignore[arg-type]
    async with opened(tls_settings(url, certificates, token_source=FileToken(tmp_path / "token"))) as client:
        assert await collect(client) == ["BOOKMARK"]
        api.fail(401, "Unauthorized")
        api.fail(401, "Unauthorized")
        with pytest.raises(Unauthorized):
            await collect(client)


async def test_tls_failures(secure: tuple[FakeApi, str], certificates: Certificates) -> None:
    """An unknown authority is refused before anything is sent; insecure accepts it; so does the right name only."""
    api, url = secure
    wrong = tls_settings(url, certificates, ca_file=str(certificates.folder / "stranger.crt"))
    async with opened(wrong) as client:
        with pytest.raises(KubeUnavailable, match="certificate"):
            await client.server_version()
    assert api.requests == []
    async with opened(KubeSettings(server=url, insecure=True)) as client:
        await client.server_version()
    async with opened(tls_settings(url, certificates, tls_server_name="server.test")) as client:
        await client.server_version()
    async with opened(tls_settings(url, certificates, tls_server_name="elsewhere.test")) as client:
        with pytest.raises(KubeUnavailable, match="certificate"):
            await client.server_version()


async def test_rotated_authority(secure: tuple[FakeApi, str], certificates: Certificates, tmp_path: Path) -> None:
    """A CA file that is replaced while we run is used for the next connection."""
    _, url = secure
    authority = tmp_path / "ca.crt"
    authority.write_bytes((certificates.folder / "stranger.crt").read_bytes())
    async with opened(tls_settings(url, certificates, ca_file=str(authority))) as client:
        with pytest.raises(KubeUnavailable):
            await client.server_version()
        authority.write_bytes((certificates.folder / "ca.crt").read_bytes())
        assert await client.server_version()


@pytest.mark.parametrize("as_data", [True, False])
async def test_client_certificate(certificates: Certificates, serve: object, as_data: bool) -> None:
    """A client certificate opens a server that demands one, from files and from data; without it nothing works."""
    folder = certificates.folder
    async with serve(certificates.server_context(ask_client=True)) as (_, url):  # type: ignore[operator]
        settings = tls_settings(
            url, certificates, client_cert_file=str(folder / "client.crt"), client_key_file=str(folder / "client.key")
        )
        if as_data:
            settings = KubeSettings(
                server=url,
                ca_data=(folder / "ca.crt").read_bytes(),
                client_cert_data=(folder / "client.crt").read_bytes(),
                client_key_data=(folder / "client.key").read_bytes(),
            )
        async with opened(settings) as client:
            assert await client.server_version() == "v1.34.4"
        async with opened(tls_settings(url, certificates)) as client:
            with pytest.raises(KubeUnavailable):
                await client.server_version()


@pytest.mark.parametrize("tls", [True, False])
async def test_unix_socket(certificates: Certificates, serve: object, tmp_path: Path, tls: bool) -> None:
    """The API is reached on a Unix socket, with TLS (the certificate is checked) and without."""
    path = str(tmp_path / "api.sock")
    context = certificates.server_context() if tls else None
    async with serve(context, path) as (_, url):  # type: ignore[operator]
        async with opened(tls_settings(url, certificates, unix_socket=path)) as client:
            assert await client.server_version() == "v1.34.4"
        if tls:
            wrong = tls_settings(url, certificates, unix_socket=path, ca_file=str(certificates.folder / "stranger.crt"))
            async with opened(wrong) as client:
                with pytest.raises(KubeUnavailable, match="certificate"):
                    await client.server_version()
    async with opened(tls_settings(url, certificates, unix_socket=str(tmp_path / "none.sock"))) as client:
        with pytest.raises(KubeUnavailable):
            await client.server_version()
