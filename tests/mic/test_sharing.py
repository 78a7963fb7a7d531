"""What the controller keeps of an object is all it needs, once."""

from __future__ import annotations

import msgspec

from podidentity.api.constants import HOST_ANNOTATION, NODE_LABEL, POD_LABEL
from podidentity.api.core import Pod
from podidentity.api.identity import AzureAssignedIdentity, AzureIdentity, AzureIdentityBinding
from podidentity.mic.sharing import Sharing
from podidentity.mic.wanted import assigned_identity, wanted
from podidentity.mic.world import World

IDENTITY = {
    "metadata": {"name": "id1", "namespace": "default", "uid": "i"},
    "spec": {"type": 0, "resourceID": "/subscriptions/s/x", "clientID": "c"},
}
BINDING = {
    "metadata": {"name": "b1", "namespace": "default", "uid": "b"},
    "spec": {"azureIdentity": "id1", "selector": "app"},
}


def pod(name: str) -> Pod:
    """A pod as the API answers it."""
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "7"}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**meta, "labels": {POD_LABEL: "app", "other": "x"}, "annotations": {"big": "y" * 1000}},
        "spec": {"nodeName": "n1", "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=Pod)


def record(name: str) -> AzureAssignedIdentity:
    """A record as the API answers it."""
    want = wanted(
        pod(name), msgspec.convert(IDENTITY, AzureIdentity), msgspec.convert(BINDING, AzureIdentityBinding), "default"
    )
    made = assigned_identity(want, f"{name}-default-id1", {HOST_ANNOTATION: "/subscriptions/s/host"}, state="Assigned")
    return msgspec.json.decode(msgspec.json.encode(made), type=AzureAssignedIdentity)


def test_records_are_the_same_with_shared_parts() -> None:
    """Protects memory and truth: a record equals the one that came, and embeds the same objects as the next one."""
    sharing = Sharing()
    one, two = (sharing.record(record(name)) for name in ("p", "q"))
    assert (one, two) == (record("p"), record("q"))
    assert one.spec.azure_identity_ref is two.spec.azure_identity_ref
    assert one.spec.azure_binding_ref is two.spec.azure_binding_ref
    assert one.status is two.status
    assert one.metadata.labels[NODE_LABEL] is two.metadata.labels[NODE_LABEL]
    assert one.metadata.annotations[HOST_ANNOTATION] is two.metadata.annotations[HOST_ANNOTATION]


def test_another_version_of_a_part_is_another_object() -> None:
    """Protects records from each other: an identity that changed is not taken for the one before."""
    sharing = Sharing()
    old = sharing.record(record("p"))
    changed = msgspec.structs.replace(old.spec.azure_identity_ref.spec, client_id="other")
    identity = msgspec.structs.replace(old.spec.azure_identity_ref, spec=changed)
    spec = msgspec.structs.replace(old.spec, azure_identity_ref=identity)
    new = sharing.record(msgspec.structs.replace(old, spec=spec))
    assert new.spec.azure_identity_ref.spec.client_id == "other"
    assert old.spec.azure_identity_ref.spec.client_id == "c"


def test_a_pod_keeps_what_counts() -> None:
    """Protects the assignment: name, uid, node, label, phase and deletion are kept, the rest is not."""
    one, two = (Sharing().pod(pod("p")) for _ in range(2))
    assert one == two
    assert (one.key, one.metadata.uid, one.metadata.resource_version) == ("default/p", "uid-p", "7")
    assert dict(one.metadata.labels) == {POD_LABEL: "app"}
    assert (one.spec.node_name, one.status.phase) == ("n1", "Running")
    assert (one.metadata.annotations, one.status.pod_ip) == ({}, "")
    gone = msgspec.structs.replace(pod("p").metadata, deletion_timestamp="2026-01-01T00:00:00Z", labels={})
    terminating = Sharing().pod(msgspec.structs.replace(pod("p"), metadata=gone))
    assert terminating.metadata.deletion_timestamp == "2026-01-01T00:00:00Z"
    assert terminating.metadata.labels == {}


def test_a_listed_record_is_kept_once() -> None:
    """Protects memory: what the watch holds is what the world holds, not a copy of it; 80 MB of 100,000 records."""
    world = World()
    listed = world.sharing.record(record("p"))
    world.seen(listed, shared=True)
    (shelf,) = world.shelves.values()
    assert shelf.records["default/p-default-id1"].object is listed
