"""Less usual ways through the controller: late nodes, moved nodes, raced writes, odd records, records of upgrades."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from podidentity.api.constants import FINALIZER
from podidentity.api.core import ConfigMap, Node, NodeSpec
from podidentity.api.identity import AzureAssignedIdentity, AzureAssignedIdentitySpec, AzureAssignedIdentityStatus
from podidentity.api.meta import ObjectMeta
from podidentity.azure.cloud import cloud_named
from podidentity.azure.config import AzureConfig
from podidentity.azure.credentials import AccessToken
from podidentity.azure.errors import (
    ApiVersionRefused,
    AuthorizationFailed,
    AzureUnavailable,
    FailedIdentityOperation,
    SubscriptionNotFound,
    TokenError,
)
from podidentity.config.redact import SecretText
from podidentity.kube.errors import AlreadyExists, Conflict, NotFound
from podidentity.kube.store import Change
from podidentity.mic.credential import CurrentCredential, described
from podidentity.mic.messages import attach_error, host_error
from podidentity.mic.upgrade import UpgradeRecord, upgrade_types
from podidentity.rules.node_label import node_label
from podidentity.rules.resource_id import HostId

pytestmark = pytest.mark.looptime

Bench = Any
HOST = HostId("s", "g", "virtualMachines", "vm")


async def test_pod_before_its_node(bench: Bench) -> None:
    """Protects pods that are seen before their node has a providerID: they are told, then served."""
    bench.put(Node(metadata=ObjectMeta(name="n1")))
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: any("no Azure machine" in e[3] for e in bench.told.events), 2)
    assert bench.states() == {}
    bench.node("n1", "vmss")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)


async def test_node_reimaged_into_another_scale_set(bench: Bench) -> None:
    """Protects a node whose name comes back on another host: records move with it, nobody loses the identity."""
    bench.node("n1", "one")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.node("n1", "two")
    await bench.until(lambda: bench.on("two") == {"id1"}, 15)
    await bench.until(lambda: list(bench.states().values()) == ["Assigned"], 200)
    assert bench.on("one") == set()


async def test_node_and_host_vanish_under_a_running_pod(bench: Bench) -> None:
    """Protects pods on a machine that ARM does not know: they are told so, and served when it is there."""
    bench.node("n1", "vmss")
    del bench.arm.attached["vmss"]
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: any("does not exist in Azure" in e[3] for e in bench.told.events), 30)
    bench.arm.add_host("vmss")
    await bench.until(lambda: bench.assigned("p-default-id1"), 120)


def _recorded_on_a_node_without_host(bench: Bench, name: str, state: str) -> str:
    """A pod on a node that has no providerID, and a record of it; the record's uid."""
    bench.put(Node(metadata=ObjectMeta(name="n1")))
    identity = bench.identity("id1")
    binding = bench.things["AzureIdentityBinding default/id1-binding"]
    bench.pod("p", "n1", "id1")
    meta = ObjectMeta(name=name, namespace="default", finalizers=(FINALIZER,))
    spec = AzureAssignedIdentitySpec(
        azure_identity_ref=identity, azure_binding_ref=binding, pod="p", pod_namespace="default", node_name="n1"
    )
    obj = AzureAssignedIdentity(metadata=meta, spec=spec, status=AzureAssignedIdentityStatus(status=state))
    return bench.kube.seed(obj).metadata.uid


async def test_adopted_record_on_a_node_without_host(bench: Bench) -> None:
    """Protects the original's record whose node has no providerID yet: kept as it is, assigned once it has one."""
    uid = _recorded_on_a_node_without_host(bench, "p-default-id1", "Created")
    await asyncio.sleep(5)
    assert bench.states() == {"p-default-id1": "Created"}
    bench.node("n1", "vmss")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    assert bench.record("p-default-id1").metadata.uid == uid


async def test_assigned_record_of_another_name_on_a_node_without_host(bench: Bench) -> None:
    """Protects a pod that is served: its record is left alone while the node's machine is unknown, nobody is told."""
    await bench.kill()
    _recorded_on_a_node_without_host(bench, "p-default-id1-12345678", "Assigned")
    await bench.restart()
    await asyncio.sleep(30)
    assert bench.states() == {"p-default-id1-12345678": "Assigned"}
    assert not bench.told.events


async def test_terminating_record_with_another_finalizer(bench: Bench) -> None:
    """Protects against waiting for somebody else's finalizer: ours goes, a new record is written beside it."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    old = bench.record("p-default-id1")
    meta = msgspec.structs.replace(old.metadata, finalizers=(FINALIZER, "example.com/other"))
    bench.kube.seed(msgspec.structs.replace(old, metadata=meta))
    await bench.kube.delete(None, "p-default-id1", "default")
    await bench.until(lambda: list(bench.states().values()).count("Assigned") == 1, 15)
    assert bench.kube.objects["default/p-default-id1"].metadata.finalizers == ("example.com/other",)
    assert len(bench.arm.patches) == 1


async def test_record_without_a_finalizer(bench: Bench) -> None:
    """Protects the host of an original's record that has no finalizer: the identity leaves it with the last pod."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    old = bench.record("p-default-id1")
    bench.kube.seed(msgspec.structs.replace(old, metadata=msgspec.structs.replace(old.metadata, finalizers=())))
    await bench.restart()
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {"p-default-id1": "-Assigned"}, 5)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


async def test_m12_foreign_node(bench: Bench) -> None:
    """Protects clusters with nodes that are not on Azure."""
    bench.put(Node(metadata=ObjectMeta(name="k"), spec=NodeSpec(provider_id="kind://x")))
    bench.identity("id1")
    bench.pod("p", "k", "id1")
    await asyncio.sleep(5)
    assert bench.states() == {}
    assert not bench.arm.gets


async def test_record_of_a_host_nobody_knows(bench: Bench) -> None:
    """Protects against leftovers of the original whose node is long gone: the record goes, with an Event."""
    identity = bench.identity("id1")
    binding = bench.things["AzureIdentityBinding default/id1-binding"]
    meta = ObjectMeta(name="old-default-id1", namespace="default", finalizers=(FINALIZER,))
    spec = AzureAssignedIdentitySpec(
        azure_identity_ref=identity, azure_binding_ref=binding, pod="old", pod_namespace="default", node_name="gone"
    )
    obj = AzureAssignedIdentity(metadata=meta, spec=spec, status=AzureAssignedIdentityStatus(status="Assigned"))
    bench.kube.seed(obj)
    await bench.until(lambda: bench.states() == {}, 5)
    assert [e for e in bench.told.events if e[2] == "binding removed"]


async def test_ambiguous_and_foreign_names(bench: Bench) -> None:
    """Protects two pods whose record names run together, also when a foreign object holds the plain name."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("c", "n1", "id1", namespace="a-b")
    bench.pod("c-a", "n1", "id1", namespace="b")
    await bench.until(lambda: list(bench.states().values()) == ["Assigned"] * 2, 15)
    assert "c-a-b-id1" in bench.states()
    bench.kube.watching = False
    foreign = AzureAssignedIdentity(metadata=ObjectMeta(name="x-default-id1", namespace="default", finalizers=("f",)))
    bench.kube.seed(foreign)
    bench.kube.watching = True
    bench.pod("x", "n1", "id1")
    await bench.until(lambda: list(bench.states().values()).count("Assigned") == 3, 30)


async def test_raced_rewrite(bench: Bench) -> None:
    """Protects an edit that somebody else's write overtakes: read again, written again."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.kube.failures.append(("replace", Conflict(409, "Conflict", "raced")))
    bench.identity("id1", tenant_id="t")
    await bench.until(lambda: bench.record("p-default-id1").spec.azure_identity_ref.spec.tenant_id == "t", 5)


async def test_record_vanishes_unseen(bench: Bench) -> None:
    """Protects a record that is removed for good behind our back: it is written again."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    gone = bench.kube.objects.pop("default/p-default-id1")
    bench.identity("id1", tenant_id="t")
    await bench.until(lambda: bench.states() != {}, 5)
    bench.controller.assigned(Change(gone, None))
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)


async def test_unripe_answer(bench: Bench) -> None:
    """Protects against an answer of ARM without client id: asked again, not believed."""
    bench.node("n1", "vmss")
    bench.arm.client_ids["id1"] = ""
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.on("vmss") == {"id1"}, 15)
    await asyncio.sleep(5)
    assert bench.states() == {"p-default-id1": "Created"}
    bench.arm.attached["vmss"] = dict.fromkeys(bench.arm.attached["vmss"], "client-id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)


async def test_m8_blind_removal_waits(bench: Bench) -> None:
    """Protects the finalizer while the host cannot be read: nothing is let go before it is clean."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.arm.get_fault = lambda _host: AzureUnavailable("net")
    bench.drop(pod)
    await asyncio.sleep(300)
    assert bench.states() == {"p-default-id1": "-Assigned"}
    bench.arm.get_fault = lambda _host: None
    await bench.until(lambda: bench.states() == {}, 120)
    assert bench.on("vmss") == set()


async def test_m8_refused_removal_is_tried_again(bench: Bench) -> None:
    """Protects against a removal ARM refuses: the record stays until it works."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    failing = [FailedIdentityOperation(400, "FailedIdentityOperation", "no") for _ in range(3)]
    bench.arm.fault = lambda _host, _patch: failing.pop() if failing else None
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 400)
    assert bench.on("vmss") == set()


async def test_full_pass(bench: Bench) -> None:
    """Protects against a lost event: everything is looked at again once an hour."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    calls = dict(bench.kube.calls)
    await asyncio.sleep(3700)
    assert bench.assigned("p-default-id1")
    assert bench.kube.calls == calls


def test_m21_long_node_names_have_a_label() -> None:
    """Protects creation on nodes whose names exceed a label's 63 characters: prefix and hash, always the same."""
    name = "a" * 62 + ".example"
    label = node_label(name)
    assert len(label) <= 63
    assert label == node_label(name) != node_label(name + "x")
    assert node_label("short") == "short"


def test_messages_say_what_to_do() -> None:
    """Protects the remedy in each message."""
    denied = AuthorizationFailed(403, "AuthorizationFailed", "no")
    assert "Virtual Machine Contributor" in host_error(denied, HOST)
    refused = ApiVersionRefused(400, "NoRegisteredProviderFound", "no")
    refused.supported = ("2023-03-01", "2024-07-01", "2025-01-01-preview")
    assert "--compute-api-version=2024-07-01" in host_error(refused, HOST)
    assert "tenantId" in host_error(SubscriptionNotFound(404, "SubscriptionNotFound", "no"), HOST)
    assert "azure.json" in host_error(TokenError(401, "invalid_client", "AADSTS7000215"), HOST)
    assert "will try again" in host_error(AzureUnavailable("net"), HOST)
    assert "check that the identity exists" in attach_error(AzureUnavailable("net"), "id", HOST)


class Maps:
    """ConfigMaps; each call may fail first."""

    def __init__(self, data: dict[str, str] | None, *errors: Exception) -> None:
        self.map = None if data is None else ConfigMap(metadata=ObjectMeta(name="c", namespace="n"), data=data)
        self.errors = list(errors)
        self.written: list[ConfigMap] = []

    async def get(self, _resource: Any, name: str, namespace: str = "") -> ConfigMap:
        """Read."""
        if self.map is None:
            raise NotFound(404, "NotFound", "")
        return self.map

    async def create(self, _resource: Any, obj: ConfigMap) -> ConfigMap:
        """Create."""
        if self.errors:
            self.map = ConfigMap(metadata=obj.metadata)
            raise self.errors.pop()
        self.map = obj
        return obj

    async def replace(self, _resource: Any, obj: ConfigMap) -> ConfigMap:
        """Write."""
        if self.errors:
            raise self.errors.pop()
        self.map = obj
        self.written.append(obj)
        return obj


@pytest.mark.parametrize(
    ("data", "error", "written"),
    [
        (None, None, {"k": "v1"}),
        (None, AlreadyExists(409, "AlreadyExists", ""), {"k": "v1"}),
        ({"other": "x"}, None, {"other": "x", "k": "v1"}),
        ({"k": "v0"}, None, None),
        ({}, Conflict(409, "Conflict", ""), None),
    ],
)
async def test_m49_upgrade_record(
    data: dict[str, str] | None, error: Exception | None, written: dict[str, str] | None
) -> None:
    """Protects a way back to the original: its record is kept, never overwritten, and its absence is survived."""
    maps = Maps(data, *([error] if error else []))
    await upgrade_types(maps, UpgradeRecord("n", "c", "k"), "v1")  # type: ignore[arg-type]  # the three calls it makes
    assert [dict(obj.data) for obj in maps.written] == ([written] if written else [])


class Source:
    """A credential that says which configuration it was made from."""

    def __init__(self, config: AzureConfig) -> None:
        self.config = config
        self.closed = False

    async def token(self, resource: str) -> AccessToken:
        """A token."""
        return AccessToken(token=SecretText(self.config.client_id), expires_on=0, resource=resource)

    async def close(self) -> None:
        """Close."""
        self.closed = True


def _config(**changes: Any) -> AzureConfig:
    fields: dict[str, Any] = {
        "cloud": cloud_named("AzurePublicCloud", {}),
        "tenant_id": "t",
        "client_id": "11111111-1111",
        "client_secret": SecretText("x"),
        "subscription_id": "s",
        "resource_group": "g",
        "use_managed_identity": False,
        "user_assigned_identity_id": "",
    }
    return AzureConfig(**(fields | changes))


async def test_changed_credentials_are_taken_up() -> None:
    """Protects a rotated azure.json: the next token comes from the new credential, both are closed in the end."""
    current, made = _config(), []

    def make(config: AzureConfig) -> Source:
        made.append(Source(config))
        return made[-1]

    credential = CurrentCredential(lambda: current, make)
    assert (await credential.token("r")).token.reveal() == "11111111-1111"
    await credential.token("r")
    current = _config(client_id="22222222-2222")
    assert (await credential.token("r")).token.reveal() == "22222222-2222"
    assert len(made) == 2
    await credential.close()
    assert all(one.closed for one in made)


def test_who_mic_is_at_azure() -> None:
    """Protects the client id in the start-up line."""
    assert described(_config()) == "MIC using service principal: 1111##### REDACTED #####1111 for authentication."
    system = _config(use_managed_identity=True)
    assert described(system) == "MIC using system assigned identity for authentication."
    user = _config(use_managed_identity=True, user_assigned_identity_id="ab" * 8)
    assert "user assigned identity: abab##### REDACTED #####abab" in described(user)
