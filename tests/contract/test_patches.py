"""The three patches: what each makes of an object, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import config_map, identity, ours, path, pod
from tests.contract.servers import JSON_PATCH, MERGE, STRATEGIC, Server


def test_merge_patch(server: Server, space: str, name: str) -> None:
    """Values are added, changed and, by null, removed; lists are replaced whole."""
    server.make(path("configmaps", space), config_map(name, data={"a": "1", "b": "2"}, finalizers=["x.io/a", "x.io/b"]))
    patch = {"data": {"a": None, "b": "3", "c": "4"}, "metadata": {"finalizers": ["x.io/b"], "labels": {"l": "m"}}}
    answer = server.admin.patch(path("configmaps", space, name), patch)
    assert (answer.status, answer.body["data"]) == (200, {"b": "3", "c": "4"})
    assert answer.body["metadata"]["finalizers"] == ["x.io/b"]
    assert answer.body["metadata"]["labels"] == {"l": "m"}
    server.admin.patch(path("configmaps", space, name), {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("content_type", [MERGE, STRATEGIC])
def test_patch_of_a_version(server: Server, space: str, name: str, content_type: str) -> None:
    """A patch that names a stale version is 409, one that names another uid is 422."""
    made = server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    version = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "data": {"a": "2"}}
    assert server.admin.patch(where, patch, content_type).status == 200
    answer = server.admin.patch(where, {**patch, "data": {"a": "3"}}, content_type)
    assert (answer.status, answer.reason) == (409, "Conflict")
    uid = {"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}, "data": {"a": "3"}}
    answer = server.admin.patch(where, uid, content_type)
    assert (answer.status, "metadata.uid: Invalid value" in answer.message) == (422, True)
    assert server.admin.get(where).body["data"] == {"a": "2"}


def test_json_patch(server: Server, space: str, name: str) -> None:
    """Every operation, applied in order."""
    server.make(ours("azureidentities", space), identity(name, auxiliaryTenantIDs=["a", "b"]))
    operations = [
        {"op": "test", "path": "/spec/clientID", "value": "c"},
        {"op": "replace", "path": "/spec/clientID", "value": "d"},
        {"op": "add", "path": "/spec/auxiliaryTenantIDs/-", "value": "c"},
        {"op": "remove", "path": "/spec/auxiliaryTenantIDs/0"},
        {"op": "add", "path": "/metadata/annotations", "value": {"x.io/a~b": "1"}},
        {"op": "copy", "from": "/spec/clientID", "path": "/spec/tenantID"},
        {"op": "move", "from": "/metadata/annotations/x.io~1a~0b", "path": "/metadata/annotations/moved"},
    ]
    answer = server.admin.patch(ours("azureidentities", space, name), operations, JSON_PATCH)
    assert answer.status == 200, answer.body
    assert answer.body["spec"]["auxiliaryTenantIDs"] == ["b", "c"]
    assert (answer.body["spec"]["clientID"], answer.body["spec"]["tenantID"]) == ("d", "d")
    assert answer.body["metadata"]["annotations"] == {"moved": "1"}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/a", "value": "other"},
        {"op": "remove", "path": "/data/none"},
        {"op": "replace", "path": "/none/deep", "value": "1"},
        {"op": "add", "path": "/none/deep", "value": "1"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "conjure", "path": "/data/a"},
        {"op": "add"},
    ],
)
def test_json_patches_that_do_not_apply(server: Server, space: str, name: str, operation: dict[str, Any]) -> None:
    """All or nothing: 422, and the operations before it are undone."""
    server.make(path("configmaps", space), config_map(name))
    first = {"op": "add", "path": "/data/b", "value": "2"}
    answer = server.admin.patch(path("configmaps", space, name), [first, operation], JSON_PATCH)
    assert (answer.status, answer.reason) == (422, "Invalid"), answer.body
    assert answer.message == "the server rejected our request due to an error in our request"
    assert server.admin.get(path("configmaps", space, name)).body["data"] == {"a": "1"}


def test_lenient_json_patches(server: Server, space: str, name: str) -> None:
    """A member that is not there can be replaced and is null; elements count from the end, too."""
    server.make(ours("azureidentities", space), identity(name, auxiliaryTenantIDs=["a", "b"]))
    operations = [
        {"op": "test", "path": "/spec/tenantID", "value": None},
        {"op": "replace", "path": "/spec/tenantID", "value": "t"},
        {"op": "remove", "path": "/spec/auxiliaryTenantIDs/-1"},
    ]
    answer = server.admin.patch(ours("azureidentities", space, name), operations, JSON_PATCH)
    assert (answer.status, answer.body["spec"]["tenantID"]) == (200, "t")
    assert answer.body["spec"]["auxiliaryTenantIDs"] == ["a"]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (MERGE, [], 400),
        (MERGE, "text", 400),
        (JSON_PATCH, {}, 400),
        (JSON_PATCH, [1], 400),
        (STRATEGIC, [], 400),
        ("application/json", {}, 415),
        ("text/plain", {}, 415),
    ],
)
def test_patches_that_are_none(server: Server, space: str, content_type: str, body: object, status: int) -> None:
    """A body of the wrong shape is 400, a content type that is no patch 415."""
    where = path("serviceaccounts", space, "default")
    answer = server.admin.patch(where, body, content_type)
    assert answer.status == status, answer.body


def test_patch_of_nothing(server: Server, space: str, name: str) -> None:
    """404, and nothing is made."""
    assert server.admin.patch(path("configmaps", space, name), {"data": {}}).status == 404
    assert server.admin.patch(ours("azureidentities", space, name), {"spec": {}}).status == 404
    assert server.admin.get(path("configmaps", space, name)).status == 404


@pytest.mark.parametrize("content_type", [MERGE, STRATEGIC])
def test_patches_do_not_rename(server: Server, space: str, name: str, content_type: str) -> None:
    """A patch of the name or the namespace is refused, of the kind it is refused or ignored."""
    server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    assert server.admin.patch(where, {"metadata": {"name": "other"}}, content_type).status == 400
    assert server.admin.patch(where, {"metadata": {"namespace": "other"}}, content_type).status == 400
    answer = server.admin.patch(where, {"kind": "Secret", "apiVersion": "v2"}, content_type)
    assert answer.status == (422 if content_type == MERGE else 200)
    assert server.admin.get(where).body["kind"] == "ConfigMap"
    everything = [{"op": "replace", "path": "", "value": {}}]
    assert server.admin.patch(where, everything, JSON_PATCH).status == 400


def test_patch_of_our_kinds_type(server: Server, space: str, name: str) -> None:
    """A custom resource stays what it is, and the refusal names the field."""
    server.make(ours("azureidentities", space), identity(name))
    for patch, complaint in (
        ({"kind": "Secret"}, 'kind: Invalid value: "Secret": must be AzureIdentity'),
        ({"apiVersion": "v2"}, 'apiVersion: Invalid value: "v2": must be aadpodidentity.k8s.io/v1'),
    ):
        answer = server.admin.patch(ours("azureidentities", space, name), patch)
        assert (answer.status, complaint in answer.message) == (422, True)


def test_an_object_made_invalid(server: Server, space: str, name: str) -> None:
    """What a patch makes is checked like any other object."""
    server.make(ours("azureidentities", space), identity(name))
    answer = server.admin.patch(ours("azureidentities", space, name), {"spec": {"type": "x"}})
    assert (answer.status, answer.reason) == (422, "Invalid")
    operations = [{"op": "replace", "path": "/spec/type", "value": "x"}]
    assert server.admin.patch(ours("azureidentities", space, name), operations, JSON_PATCH).status == 422


def test_strategic_patch_of_lists(server: Server, space: str, name: str) -> None:
    """Containers, variables and owners merge by their keys, finalizers as a set; $patch and $setElementOrder work."""
    containers = [
        {"name": "one", "image": "x:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "two", "image": "y:1"},
    ]
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    deployment = {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    server.make(path("deployments.apps", space), deployment)
    change = [
        {"name": "two", "$patch": "delete"},
        {"name": "one", "image": "x:2", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
        {"name": "three", "image": "z:1"},
    ]
    order = [{"name": "one"}, {"name": "three"}]
    patch = {"template": {"spec": {"containers": change, "$setElementOrder/containers": order}}}
    answer = server.admin.patch(path("deployments.apps", space, name), {"spec": patch}, STRATEGIC)
    found = answer.body["spec"]["template"]["spec"]["containers"]
    assert [(one["name"], one["image"]) for one in found] == [("one", "x:2"), ("three", "z:1")]
    assert [(one["name"], one["value"]) for one in found[0]["env"]] == [
        ("A", "1"),
        ("B", "3"),
        ("C", "4"),
    ]


def test_strategic_patch_of_sets(server: Server, space: str, name: str) -> None:
    """Finalizers are added to those that are there, and taken away by name."""
    server.make(path("configmaps", space), config_map(name, finalizers=["x.io/a"]))
    where = path("configmaps", space, name)
    answer = server.admin.patch(where, {"metadata": {"finalizers": ["x.io/b"]}}, STRATEGIC)
    assert sorted(answer.body["metadata"]["finalizers"]) == ["x.io/a", "x.io/b"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.io/a", "x.io/b"]}}
    answer = server.admin.patch(where, patch, STRATEGIC)
    assert "finalizers" not in answer.body["metadata"]


def test_strategic_replacement(server: Server, space: str, name: str) -> None:
    """``$patch: replace`` replaces a map, and an unknown directive is refused."""
    server.make(path("configmaps", space), config_map(name, data={"a": "1", "b": "2"}))
    where = path("configmaps", space, name)
    answer = server.admin.patch(where, {"data": {"$patch": "replace", "c": "3"}}, STRATEGIC)
    assert answer.body["data"] == {"c": "3"}
    answer = server.admin.patch(where, {"data": {"$patch": "shrink"}}, STRATEGIC)
    assert (answer.status, answer.message) == (500, "unknown patch type: shrink in map: map[$patch:shrink]")


def test_strategic_patch_of_ours(server: Server, space: str, name: str) -> None:
    """Custom resources have none: 415 names the patches there are."""
    server.make(ours("azureidentities", space), identity(name))
    answer = server.admin.patch(ours("azureidentities", space, name), {"spec": {}}, STRATEGIC)
    assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")
    assert "application/json-patch+json, application/merge-patch+json" in answer.message


def test_pods_hardly_change(server: Server, space: str, name: str) -> None:
    """A pod's image may change, its command may not."""
    server.make(path("pods", space), pod(name))
    where = path("pods", space, name)
    image = {"spec": {"containers": [{"name": "main", "image": "x:2"}]}}
    assert server.admin.patch(where, image, STRATEGIC).body["spec"]["containers"][0]["image"] == "x:2"
    command = {"spec": {"containers": [{"name": "main", "command": ["sh"]}]}}
    answer = server.admin.patch(where, command, STRATEGIC)
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert "spec: Forbidden: pod updates may not change fields other than" in answer.message
