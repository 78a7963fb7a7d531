"""The whole package against the embedded API server: both were written from the same facts, apart from each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.core import ConfigMap, Endpoints, Lease
from podidentity.api.meta import ObjectMeta, reference
from podidentity.api.resources import CONFIG_MAPS, ENDPOINTS, EVENTS, LEASES, PODS
from podidentity.kube.auth import StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import AlreadyExists, Conflict, Gone, NotFound, Unauthorized
from podidentity.kube.events import EventRecorder
from podidentity.kube.leadership import ElectionSettings, Leadership
from podidentity.kube.records import read_endpoints, read_lease
from podidentity.kube.reflector import Reflector
from podidentity.kube.settings import KubeSettings
from podidentity.kube.store import Store
from podidentity.lab.kube.config import ApiConfig
from podidentity.lab.kube.serving import Running, serve


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """An embedded API server with TLS, on a port and a Unix socket."""
    async with serve(ApiConfig(unix=tmp_path / "api.sock")) as running:
        yield running


@pytest.fixture
async def client(server: Running) -> AsyncIterator[KubeClient]:
    """An administrator's client."""
    async with KubeClient(settings(server), user_agent="tests", rng=random.Random(1)) as one:
        yield one


def settings(server: Running, **changes: str) -> KubeSettings:
    """An administrator's settings."""
    return KubeSettings(
        server=server.url, ca_data=server.ca.encode(), token_source=StaticToken(server.admin_token), **changes
    )


def config_map(name: str, **meta: object) -> ConfigMap:
    """A ConfigMap."""
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", **meta), data={"a": "1"})  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is waited for happens over a socket
            await asyncio.sleep(0.02)


async def test_life_of_an_object(client: KubeClient) -> None:
    """Create, conflict, patches, finalizer, precondition, deletion: the same answers as the fake's."""
    assert (await client.server_version()).startswith("v1.")
    made = await client.create(CONFIG_MAPS, config_map("c", finalizers=("example.com/f",), labels={"app": "x"}))
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAPS, config_map("c"))
    patched = await client.patch_merge(CONFIG_MAPS, "c", "default", {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}
    with pytest.raises(Conflict):
        await client.replace(CONFIG_MAPS, made)
    assert (await client.list(CONFIG_MAPS, label_selector="app=x")).items[0].name == "c"
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, "c", "default", uid="00000000-0000-0000-0000-000000000000")
    left = await client.delete(CONFIG_MAPS, "c", "default", uid=made.metadata.uid)
    assert left is not None
    assert left.metadata.deletion_timestamp
    await client.patch_json(CONFIG_MAPS, "c", "default", [{"op": "remove", "path": "/metadata/finalizers"}])
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "c", "default")


async def test_unix_socket_and_wrong_token(server: Running, tmp_path: Path) -> None:
    """The same server on its Unix socket; a wrong token is Unauthorized."""
    async with KubeClient(settings(server, unix_socket=str(tmp_path / "api.sock")), user_agent="t") as one:
        assert await one.server_version()
    wrong = KubeSettings(server=server.url, ca_data=server.ca.encode(), token_source=StaticToken("wrong"))
    async with KubeClient(wrong, user_agent="t") as one:
        with pytest.raises(Unauthorized):
            await one.list(PODS)


async def test_list_of_many_pages(client: KubeClient) -> None:
    """More objects than a page holds arrive complete."""
    for number in range(510):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"))
    found = await client.list(CONFIG_MAPS, namespace="default")
    assert {f"c{number}" for number in range(510)} <= {one.name for one in found.items}


async def test_watch_of_a_forgotten_version(server: Running, client: KubeClient) -> None:
    """A version the server has compacted is Gone."""
    old = (await client.list(CONFIG_MAPS)).resource_version
    for number in range(3):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"))
    server.forget_history()
    with pytest.raises(Gone):
        await anext(client.watch(CONFIG_MAPS, resource_version=old, timeout=5))


async def test_reflector_through_trouble(server: Running, client: KubeClient) -> None:
    """Ended watches and a compaction in the middle of changes: the store ends up equal."""
    store: Store[ConfigMap] = Store({"a": lambda one: [one.data.get("a", "")]})
    reflector = Reflector(client, CONFIG_MAPS, store, namespace="default", rng=random.Random(1))
    task = asyncio.get_running_loop().create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 5)
    for number in range(60):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"))
        if number % 3 == 0:
            await client.delete(CONFIG_MAPS, f"c{number}", "default")
        if number == 20:
            server.end_watches()
        if number == 40:
            server.end_watches()
            server.forget_history()
    expected = {one.key for one in (await client.list(CONFIG_MAPS, namespace="default")).items}
    await until(lambda: {one.key for one in store.values()} == expected)
    assert len(store.by_index("a", "1")) == len([key for key in expected if key.startswith("default/c")])
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_leadership_with_both_objects(client: KubeClient) -> None:
    """A leader writes both objects as the API wants them, and hands over in real time."""
    fences = [Fence(Clock()), Fence(Clock())]

    def contender(identity: str, fence: Fence) -> tuple[Leadership, asyncio.Event]:
        return Leadership(client, ElectionSettings(identity, "default", "mic", 4.0), fence=fence), asyncio.Event()

    async def run(leadership: Leadership, leading: asyncio.Event) -> None:
        async def lead() -> None:
            leading.set()
            await asyncio.sleep(60)

        await leadership.run(lead)

    (one, one_leads), (two, two_leads) = contender("one", fences[0]), contender("two", fences[1])
    loop = asyncio.get_running_loop()
    first = loop.create_task(run(one, one_leads))
    await asyncio.wait_for(one_leads.wait(), 5)
    second = loop.create_task(run(two, two_leads))
    await asyncio.sleep(3)
    assert [fence.is_open for fence in fences] == [True, False]
    assert not two_leads.is_set()
    for task, follows in ((first, two_leads), (second, None)):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if follows:
            await asyncio.wait_for(follows.wait(), 6)
    endpoints: Endpoints = await client.get(ENDPOINTS, "mic", "default")
    lease: Lease = await client.get(LEASES, "mic", "default")
    for record in (read_endpoints(endpoints), read_lease(lease)):
        assert record is not None
        assert (record.holder, record.transitions) == ("", 1)


async def test_events(client: KubeClient) -> None:
    """An Event is accepted, found by its object, and counted up."""
    made = await client.create(CONFIG_MAPS, config_map("c"))
    recorder = EventRecorder(client, component="tests")
    task = asyncio.get_running_loop().create_task(recorder.run())
    for _ in range(3):
        recorder.event(reference(made), "Warning", "went wrong", "do something")
    selector = "involvedObject.kind=ConfigMap,involvedObject.name=c"
    async with asyncio.timeout(10):
        while True:
            found = await client.list(EVENTS, namespace="default", field_selector=selector)
            if found.items and found.items[0].count == 3:
                break
            await asyncio.sleep(0.05)
    assert len(found.items) == 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
