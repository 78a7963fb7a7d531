"""The product's own client at both servers: what it sends is accepted, what they answer is understood."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from tests.contract.objects import GROUP, config_map, identity, ours, path
from tests.contract.servers import PATIENCE, Server

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.core import ConfigMap, Lease
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureAssignedIdentitySpec,
    AzureAssignedIdentityStatus,
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentitySpec,
)
from podidentity.api.meta import ObjectMeta, reference
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES, AZURE_IDENTITIES, CONFIG_MAPS, EVENTS, LEASES
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import AlreadyExists, Conflict, Gone, Invalid, NotFound
from podidentity.kube.events import EventRecorder
from podidentity.kube.leadership import ElectionSettings, Leadership
from podidentity.kube.records import read_lease
from podidentity.kube.reflector import Reflector
from podidentity.kube.settings import KubeSettings
from podidentity.kube.store import Store


@pytest.fixture
async def client(server: Server) -> AsyncIterator[KubeClient]:
    """The administrator's client."""
    pki = server.pki
    settings = KubeSettings(
        server=f"https://{server.address[0]}:{server.address[1]}",
        ca_file=str(pki / "ca.crt"),
        client_cert_file=str(pki / "admin.crt"),
        client_key_file=str(pki / "admin.key"),
    )
    async with KubeClient(settings, user_agent="contract", rng=random.Random(1)) as one:
        yield one


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for happens over a socket
            await asyncio.sleep(0.02)


async def test_an_assigned_identity(client: KubeClient, space: str, name: str) -> None:
    """Mic's record: identity and binding inside, status in the same write, released by its finalizer."""
    spec = AzureAssignedIdentitySpec(
        azure_identity_ref=AzureIdentity(
            api_version=f"{GROUP}/v1",
            kind="AzureIdentity",
            metadata=ObjectMeta(name="one", namespace="team"),
            spec=AzureIdentitySpec(type=0, resource_id="/id", client_id="c"),
        ),
        azure_binding_ref=AzureIdentityBinding(
            api_version=f"{GROUP}/v1", kind="AzureIdentityBinding", metadata=ObjectMeta(name="one", namespace="team")
        ),
        pod="p",
        pod_namespace="team",
        node_name="n",
    )
    meta = ObjectMeta(name=name, namespace=space, finalizers=("example.com/f",), labels={"a": "b"})
    status = AzureAssignedIdentityStatus(status="Created")
    wanted = AzureAssignedIdentity(metadata=meta, spec=spec, status=status)
    made = await client.create(AZURE_ASSIGNED_IDENTITIES, wanted)
    assert (made.spec.azure_identity_ref.spec.client_id, made.status.status) == ("c", "Created")
    with pytest.raises(AlreadyExists):
        await client.create(AZURE_ASSIGNED_IDENTITIES, wanted)
    patched = await client.patch_merge(AZURE_ASSIGNED_IDENTITIES, name, space, {"status": {"status": "Assigned"}})
    assert patched.status.status == "Assigned"
    with pytest.raises(Conflict):
        await client.replace(AZURE_ASSIGNED_IDENTITIES, made)
    with pytest.raises(Conflict):
        await client.delete(AZURE_ASSIGNED_IDENTITIES, name, space, uid="00000000-0000-0000-0000-000000000000")
    left = await client.delete(AZURE_ASSIGNED_IDENTITIES, name, space, uid=made.metadata.uid)
    assert left is not None
    assert left.metadata.deletion_timestamp
    await client.patch_json(AZURE_ASSIGNED_IDENTITIES, name, space, [{"op": "remove", "path": "/metadata/finalizers"}])
    with pytest.raises(NotFound):
        await client.get(AZURE_ASSIGNED_IDENTITIES, name, space)


async def test_what_the_schema_refuses(client: KubeClient, space: str, name: str) -> None:
    """422 is Invalid, with the server's words."""
    with pytest.raises(Invalid, match=r"spec\.type"):
        await client.patch_merge(
            AZURE_IDENTITIES, (await _identity(client, space, name)).name, space, {"spec": {"type": "x"}}
        )


async def _identity(client: KubeClient, space: str, name: str) -> AzureIdentity:
    return await client.create(AZURE_IDENTITIES, AzureIdentity(metadata=ObjectMeta(name=name, namespace=space)))


async def test_many_pages(server: Server, client: KubeClient, fresh: str) -> None:
    """More objects than a page holds arrive complete and once."""
    for number in range(510):
        server.make(path("configmaps", fresh), config_map(f"c{number}"))
    found = await client.list(CONFIG_MAPS, namespace=fresh)
    names = [one.name for one in found.items if one.name != "kube-root-ca.crt"]
    assert sorted(names) == sorted(f"c{number}" for number in range(510))


async def test_a_forgotten_version(server: Server, client: KubeClient, fresh: str) -> None:
    """A watch of a version that nobody remembers is Gone."""
    server.make(ours("azureidentities", fresh), identity("a"))
    server.compact()
    with pytest.raises(Gone):
        await anext(client.watch(AZURE_IDENTITIES, namespace=fresh, resource_version="2", timeout=5))


async def test_a_reflector(server: Server, client: KubeClient, fresh: str) -> None:
    """What is created, changed, selected and deleted while it watches is in its store, or no longer."""
    where = ours("azureidentities", fresh)
    server.make(where, {**identity("before"), "metadata": {"name": "before", "labels": {"in": "x"}}})
    store: Store[AzureIdentity] = Store({})
    reflector = Reflector(client, AZURE_IDENTITIES, store, namespace=fresh, label_selector="in", watch_timeout=2)
    task = asyncio.get_running_loop().create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), PATIENCE)
    for number in range(20):
        labels = {"in": "x"} if number % 2 else {"out": "x"}
        await asyncio.to_thread(
            server.make, where, {**identity(f"i{number}"), "metadata": {"name": f"i{number}", "labels": labels}}
        )
    await asyncio.to_thread(server.admin.patch, f"{where}/i1", {"metadata": {"labels": {"in": None}}})
    await asyncio.to_thread(server.admin.patch, f"{where}/i2", {"metadata": {"labels": {"in": "y"}}})
    await asyncio.to_thread(server.admin.delete, f"{where}/before")
    expected = {one.key for one in (await client.list(AZURE_IDENTITIES, namespace=fresh, label_selector="in")).items}
    await until(lambda: {one.key for one in store.values()} == expected)
    assert len(expected) == 10
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_an_event_recorder(client: KubeClient, space: str, name: str) -> None:
    """The same event said three times is one Event that counts three."""
    meta = ObjectMeta(name=name, namespace=space)
    made = await client.create(CONFIG_MAPS, ConfigMap(metadata=meta, data={}))
    recorder = EventRecorder(client, component="contract")
    task = asyncio.get_running_loop().create_task(recorder.run())
    for _ in range(3):
        recorder.event(reference(made), "Warning", "went wrong", "do something")
    selector = f"involvedObject.kind=ConfigMap,involvedObject.name={name}"
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await client.list(EVENTS, namespace=space, field_selector=selector)
            if found.items and found.items[0].count == 3:
                break
            await asyncio.sleep(0.05)
    assert len(found.items) == 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_leadership(client: KubeClient, space: str, name: str) -> None:
    """A leader's two records are taken as they are written, renewed, and given back empty."""
    fence = Fence(Clock())
    leadership = Leadership(client, ElectionSettings("one", space, name, 4.0), fence=fence)
    leading = asyncio.Event()

    async def lead() -> None:
        leading.set()
        await asyncio.sleep(60)

    task = asyncio.get_running_loop().create_task(leadership.run(lead))
    await asyncio.wait_for(leading.wait(), PATIENCE)
    first = (await client.get(LEASES, name, space)).metadata.resource_version
    async with asyncio.timeout(PATIENCE):
        while (await client.get(LEASES, name, space)).metadata.resource_version == first:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert fence.is_open
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    lease: Lease = await client.get(LEASES, name, space)
    record = read_lease(lease)
    assert record is not None
    assert record.holder == ""
