"""Create, update and the patches: what they store, and which version of an object they write to."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.contract.objects import config_map, identity, ours, path, pod
from tests.contract.servers import Server

OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
STALE = "the object has been modified; please apply your changes to the latest version and try again"


def test_create(server: Server, space: str, name: str) -> None:
    """The server names uid, time, version and generation, whatever the body says of them."""
    obj = identity(name)
    obj["metadata"] |= {"uid": "mine", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z"}
    obj["metadata"] |= {"deletionTimestamp": "2001-01-01T00:00:00Z", "selfLink": "/mine"}
    answer = server.admin.post(ours("azureidentities", space), obj)
    assert answer.status == 201
    found = answer.body["metadata"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["uid"])
    assert re.fullmatch(r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["creationTimestamp"])
    assert not found["creationTimestamp"].startswith("2001")
    assert (found["generation"], found["namespace"]) == (1, space)
    assert not {"deletionTimestamp", "selfLink"} & set(found)
    assert server.admin.get(ours("azureidentities", space, name)).body == answer.body


def test_a_name_that_is_taken(server: Server, space: str, name: str) -> None:
    """409 AlreadyExists, with the object in the details: of a built-in kind and of ours."""
    server.make(path("configmaps", space), config_map(name))
    answer = server.admin.post(path("configmaps", space), config_map(name))
    assert (answer.status, answer.reason) == (409, "AlreadyExists")
    assert answer.message == f'configmaps "{name}" already exists'
    assert answer.body["details"] == {"name": name, "kind": "configmaps"}
    server.make(ours("azureidentities", space), identity(name))
    answer = server.admin.post(ours("azureidentities", space), identity(name))
    assert answer.message == f'azureidentities.aadpodidentity.k8s.io "{name}" already exists'


@pytest.mark.parametrize(
    ("meta", "complaint"),
    [
        ({"resourceVersion": "1"}, "resourceVersion should not be set on objects to be created"),
        ({"namespace": "elsewhere"}, "the namespace of the provided object does not match the namespace sent on the"),
        ({"name": ""}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "Upper"}, 'metadata.name: Invalid value: "Upper": a lowercase RFC 1123 subdomain must consist of'),
        ({"name": "a/b"}, 'metadata.name: Invalid value: "a/b": a lowercase RFC 1123 subdomain must consist of'),
        ({"generateName": "Up"}, 'metadata.generateName: Invalid value: "Up": a lowercase RFC 1123 subdomain must'),
        ({"labels": {"a": "not valid"}}, 'metadata.labels: Invalid value: "not valid": a valid label must be an empty'),
        ({"labels": {"a b": "c"}}, 'metadata.labels: Invalid value: "a b": name part must consist of alphanumeric'),
        ({"labels": {"a/b/c": "c"}}, 'metadata.labels: Invalid value: "a/b/c": a qualified name must consist of'),
        ({"labels": {"A/b": "c"}}, 'metadata.labels: Invalid value: "A/b": prefix part a lowercase RFC 1123 subdomain'),
        ({"labels": {"": "c"}}, 'metadata.labels: Invalid value: "": name part must be non-empty'),
        ({"labels": {"a": "b" * 64}}, "must be no more than 63 characters"),
        ({"annotations": {"a b": "c"}}, 'metadata.annotations: Invalid value: "a b": name part must consist of'),
        ({"annotations": {"a": "x" * 262_145}}, "metadata.annotations: Too long: may not be more than 262144 bytes"),
        ({"finalizers": ["plain"]}, 'metadata.finalizers[0]: Invalid value: "plain": name is neither a standard'),
        ({"finalizers": ["a b/c"]}, 'metadata.finalizers: Invalid value: "a b/c": prefix part a lowercase RFC 1123'),
        ({"ownerReferences": [{**OWNER, "uid": ""}]}, 'metadata.ownerReferences.uid: Invalid value: "": must not be'),
        ({"ownerReferences": [{**OWNER, "kind": "Event"}]}, "/v1, Kind=Event is disallowed from being an owner"),
        ({"ownerReferences": [OWNER, {**OWNER, "uid": "v"}]}, "Only one reference can have Controller set to true"),
        ({"creationTimestamp": "now"}, 'parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as'),
    ],
)
def test_metadata_that_is_refused(server: Server, space: str, name: str, meta: dict[str, Any], complaint: str) -> None:
    """Wrong names, labels, annotations, finalizers and owners, a version on a new object: told and not stored."""
    answer = server.admin.post(path("configmaps", space), config_map(**{"name": name, **meta}))
    assert answer.status == (422 if answer.reason == "Invalid" else 400 if answer.reason else 500)
    assert complaint in answer.message
    assert server.admin.get(path("configmaps", space, name)).status == 404


@pytest.mark.parametrize(
    ("resource", "obj", "refusal"),
    [
        (
            "configmaps",
            {"data": {"a b": "c"}},
            (422, 'data[a b]: Invalid value: "a b": a valid config key must consist'),
        ),
        (
            "configmaps",
            {"data": {"a": "b"}, "binaryData": {"a": "Yg=="}},
            (422, "duplicate of key present in binaryData"),
        ),
        ("configmaps", {"data": {"a": "x" * 1_048_577}}, (422, "Too long: may not be more than 1048576 bytes")),
        ("secrets", {"data": {"a": "not base64"}}, (400, "illegal base64 data at input byte 3")),
        ("secrets", {"data": {"a": "abc"}}, (400, "illegal base64 data at input byte 0")),
        ("secrets", {"stringData": {"a b": "c"}}, (422, "a valid config key must consist of alphanumeric")),
        (
            "secrets",
            {"stringData": {"a": "x" * 1_048_577}},
            (422, "data: Too long: may not be more than 1048576 bytes"),
        ),
    ],
)
def test_data_that_is_refused(
    server: Server, space: str, resource: str, obj: dict[str, Any], refusal: tuple[int, str]
) -> None:
    """Keys, encoding and size of what ConfigMaps and Secrets hold."""
    answer = server.admin.post(path(resource, space), {"metadata": {"name": "refused"}, **obj})
    status, complaint = refusal
    assert (answer.status, complaint in answer.message) == (status, True), answer.message[:500]


def test_create_in_no_namespace(server: Server, name: str) -> None:
    """The namespace has to exist."""
    answer = server.admin.post(path("configmaps", "nowhere"), config_map(name))
    assert (answer.status, answer.message) == (404, 'namespaces "nowhere" not found')
    assert server.admin.post(ours("azureidentities", "nowhere"), identity(name)).status == 404


def test_generated_names(server: Server, space: str, name: str) -> None:
    """Five random letters behind the prefix, which is cut where the name would be too long; a name wins."""
    obj = config_map(name)
    obj["metadata"] = {"generateName": f"{name}-"}
    names = [server.admin.post(path("configmaps", space), obj).name for _ in range(5)]
    assert len(set(names)) == 5
    assert all(re.fullmatch(rf"{name}-[bcdfghjklmnpqrstvwxz2456789]{{5}}", one) for one in names)
    obj["metadata"] = {"generateName": "p" * 70}
    assert re.fullmatch(r"p{58}[a-z0-9]{5}", server.admin.post(path("configmaps", space), obj).name)
    obj["metadata"] = {"generateName": f"{name}-", "name": name}
    assert server.admin.post(path("configmaps", space), obj).name == name


def test_generation(server: Server, space: str, name: str) -> None:
    """It counts what is wanted, not labels; a write that changes nothing leaves the version alone."""
    first = server.make(ours("azureidentities", space), identity(name))
    where = ours("azureidentities", space, name)
    labelled = server.admin.patch(where, {"metadata": {"labels": {"a": "b"}}})
    assert labelled.body["metadata"]["generation"] == 1
    changed = server.admin.patch(where, {"spec": {"clientID": "other"}})
    assert changed.body["metadata"]["generation"] == 2
    again = server.admin.put(where, changed.body)
    assert again.version == changed.version
    assert first["metadata"]["resourceVersion"] != labelled.version != changed.version


def test_update_of_a_version(server: Server, space: str, name: str) -> None:
    """Optimistic concurrency: a stale version is 409 Conflict, a present one is written, none at all overwrites."""
    first = server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    second = server.admin.put(where, {**first, "data": {"a": "2"}})
    assert (second.status, second.body["data"]) == (200, {"a": "2"})
    stale = server.admin.put(where, {**first, "data": {"a": "3"}})
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert stale.message == f'Operation cannot be fulfilled on configmaps "{name}": {STALE}'
    assert stale.body["details"] == {"name": name, "kind": "configmaps"}
    blind = server.admin.put(where, config_map(name, data={"a": "4"}))
    assert (blind.status, blind.body["data"]) == (200, {"a": "4"})
    assert blind.body["metadata"]["uid"] == first["metadata"]["uid"]


def test_update_of_a_custom_resource(server: Server, space: str, name: str) -> None:
    """Ours are never overwritten blindly: an update says which version it is of."""
    made = server.make(ours("azureidentities", space), identity(name))
    where = ours("azureidentities", space, name)
    blind = server.admin.put(where, identity(name))
    assert (blind.status, blind.reason) == (422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in blind.message
    assert server.admin.put(where, {**made, "spec": {"type": 1}}).body["spec"] == {"type": 1}
    stale = server.admin.put(where, made)
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert stale.message == f'Operation cannot be fulfilled on azureidentities.aadpodidentity.k8s.io "{name}": {STALE}'


def test_update_of_another_object(server: Server, space: str, name: str) -> None:
    """Another name than the path's is 400; a uid of an object that is gone is 409."""
    made = server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    assert server.admin.put(where, config_map("other")).status == 400
    other = {**made, "metadata": {**made["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}}
    answer = server.admin.put(where, other)
    assert (answer.status, answer.reason) == (409, "Conflict")
    assert "Precondition failed: UID in precondition: 00000000-0000-4000-8000-000000000000" in answer.message


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        ("configmaps", 404),
        ("serviceaccounts", 404),
        ("azureidentities.aadpodidentity.k8s.io", 404),
        ("endpoints", 201),
        ("events", 201),
        ("leases.coordination.k8s.io", 201),
        ("roles.rbac.authorization.k8s.io", 201),
    ],
)
def test_update_of_nothing(server: Server, space: str, name: str, resource: str, status: int) -> None:
    """An update of an object that is not there is 404, but for the kinds that are made by it."""
    if resource.startswith("azure"):
        body = identity(name)
        body["metadata"]["resourceVersion"] = "1"
    else:
        body = {
            "metadata": {"name": name},
            **({"involvedObject": {"namespace": space}} if resource == "events" else {}),
        }
    assert server.admin.put(path(resource, space, name), body).status == status


def test_no_update_is_lost(server: Server, space: str, name: str) -> None:
    """Four writers count to twenty each, repeating on 409: the sum is right."""
    server.make(path("configmaps", space), config_map(name, data={"n": "0"}))
    where = path("configmaps", space, name)

    def count(_writer: int) -> int:
        client, conflicts = server.client(), 0
        for _ in range(20):
            while True:
                obj = client.get(where).body
                obj["data"]["n"] = str(int(obj["data"]["n"]) + 1)
                answer = client.put(where, obj)
                if answer.status == 200:
                    break
                assert answer.status == 409
                conflicts += 1
        client.close()
        return conflicts

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert server.admin.get(where).body["data"] == {"n": "80"}


def test_immutable_fields(server: Server, space: str, name: str) -> None:
    """An immutable ConfigMap, the type of a Secret, the role of a binding stay what they are."""
    server.make(path("configmaps", space), {**config_map(name), "immutable": True})
    answer = server.admin.patch(path("configmaps", space, name), {"data": {"a": "2"}})
    assert answer.status == 422
    assert "field is immutable when `immutable` is set" in answer.message
    server.make(path("secrets", space), {"metadata": {"name": name}, "type": "Opaque"})
    answer = server.admin.patch(path("secrets", space, name), {"type": "other"})
    assert (answer.status, "field is immutable" in answer.message) == (422, True)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"}
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/rolebindings"
    server.make(bindings, {"metadata": {"name": name}, "roleRef": reference})
    answer = server.admin.patch(f"{bindings}/{name}", {"roleRef": {"name": "two"}})
    assert (answer.status, "cannot change roleRef" in answer.message) == (422, True)


def test_server_metadata_stays(server: Server, space: str, name: str) -> None:
    """An update cannot change when or as what an object was made, nor delete it."""
    made = server.make(path("configmaps", space), config_map(name))
    metadata = {"name": name, "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 17}
    answer = server.admin.put(path("configmaps", space, name), {"metadata": metadata, "data": {"b": "2"}})
    assert answer.status == 200
    assert answer.body["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    assert answer.body["metadata"]["uid"] == made["metadata"]["uid"]
    metadata["deletionTimestamp"] = "2001-01-01T00:00:00Z"
    answer = server.admin.put(path("configmaps", space, name), {"metadata": metadata})
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert "metadata.deletionTimestamp: Invalid value: " in answer.message


def test_dry_run(server: Server, space: str, name: str) -> None:
    """The answer is what would be stored; nothing is."""
    maps = path("configmaps", space)
    answer = server.admin.post(maps, config_map(name), dryRun="All")
    assert (answer.status, bool(answer.body["metadata"]["uid"])) == (201, True)
    assert server.admin.get(f"{maps}/{name}").status == 404
    made = server.make(maps, config_map(name))
    assert server.admin.put(f"{maps}/{name}", config_map(name, data={"x": "y"}), dryRun="All").body["data"] == {
        "x": "y"
    }
    assert server.admin.patch(f"{maps}/{name}", {"data": {"a": None}}, dryRun="All").status == 200
    assert server.admin.delete(f"{maps}/{name}", dryRun="All").status == 200
    assert server.admin.get(f"{maps}/{name}").body == made
    answer = server.admin.post(maps, config_map(f"{name}-2"), dryRun="Some")
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert answer.message == (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"'
    )


def test_status_is_apart(server: Server, space: str, name: str) -> None:
    """A pod's status is written through its own path, its spec through the other."""
    made = server.make(path("pods", space), {**pod(name), "status": {"phase": "Running"}})
    assert made["status"]["phase"] == "Pending"
    where = path("pods", space, name)
    answer = server.admin.patch(f"{where}/status", {"status": {"phase": "Running", "podIP": "10.1.2.3"}})
    assert answer.body["status"]["phase"] == "Running"
    answer = server.admin.patch(where, {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed"}})
    assert answer.body["status"]["phase"] == "Running"
    answer = server.admin.patch(f"{where}/status", {"spec": {"nodeName": "n"}, "metadata": {"labels": {"a": "c"}}})
    assert "nodeName" not in answer.body["spec"]
