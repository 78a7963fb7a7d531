"""Deletion: at once, after finalizers, after a grace period; of one object, of many, of a namespace."""

from __future__ import annotations

import pytest
from tests.contract.objects import assigned, config_map, identity, ours, path, pod
from tests.contract.servers import Server

FINALIZER = "x.io/hold"


def test_at_once(server: Server, space: str, name: str) -> None:
    """Without finalizers the answer is Success, naming what is gone; a second time it is 404."""
    made = server.make(ours("azureidentities", space), identity(name))
    where = ours("azureidentities", space, name)
    answer = server.admin.delete(where)
    assert (answer.status, answer.body["kind"], answer.body["status"]) == (200, "Status", "Success")
    assert answer.body["details"] == {
        "name": name,
        "group": "aadpodidentity.k8s.io",
        "kind": "azureidentities",
        "uid": made["metadata"]["uid"],
    }
    answer = server.admin.delete(where)
    assert (answer.status, answer.reason) == (404, "NotFound")


def test_finalizers(server: Server, space: str, name: str) -> None:
    """A held object is Terminating, changes of it still count, and it goes with its last finalizer."""
    server.make(
        ours("azureassignedidentities", space),
        {**assigned(name), "metadata": {"name": name, "finalizers": [FINALIZER]}},
    )
    where = ours("azureassignedidentities", space, name)
    deleted = server.admin.delete(where)
    assert (deleted.status, deleted.body["kind"]) == (200, "AzureAssignedIdentity")
    assert deleted.body["metadata"]["deletionTimestamp"]
    assert deleted.body["metadata"]["deletionGracePeriodSeconds"] == 0
    assert deleted.body["metadata"]["generation"] == 2
    again = server.admin.delete(where)
    assert again.version == deleted.version
    changed = server.admin.patch(where, {"status": {"status": "Unassigned"}})
    assert changed.body["status"]["status"] == "Unassigned"
    more = server.admin.patch(where, {"metadata": {"finalizers": [FINALIZER, "x.io/new"]}})
    assert (more.status, more.reason) == (422, "Invalid")
    assert "no new finalizers can be added if the object is being deleted" in more.message
    blocked = server.admin.post(ours("azureassignedidentities", space), assigned(name))
    assert (blocked.status, blocked.reason) == (409, "AlreadyExists")
    last = server.admin.patch(where, {"metadata": {"finalizers": None}})
    assert (last.status, last.body["metadata"]["uid"]) == (200, deleted.body["metadata"]["uid"])
    assert server.admin.get(where).status == 404


def test_finalizers_by_update(server: Server, space: str, name: str) -> None:
    """An update without the finalizer ends the object, too; it cannot undo the deletion."""
    server.make(path("configmaps", space), config_map(name, finalizers=[FINALIZER]))
    where = path("configmaps", space, name)
    obj = server.admin.delete(where).body
    del obj["metadata"]["deletionTimestamp"]
    kept = server.admin.put(where, obj)
    assert kept.body["metadata"]["deletionTimestamp"]
    obj = kept.body
    obj["metadata"]["finalizers"] = []
    assert server.admin.put(where, obj).status == 200
    assert server.admin.get(where).status == 404


@pytest.mark.parametrize("key", ["uid", "resourceVersion"])
def test_preconditions(server: Server, space: str, name: str, key: str) -> None:
    """Another uid or version than the object's is 409 and leaves it; the right one deletes."""
    made = server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    wrong = {"uid": "00000000-0000-4000-8000-000000000000", "resourceVersion": "1"}[key]
    answer = server.admin.delete(where, {"preconditions": {key: wrong}})
    assert (answer.status, answer.reason) == (409, "Conflict")
    words = {"uid": "UID", "resourceVersion": "ResourceVersion"}[key]
    assert answer.message.startswith(
        f'Operation cannot be fulfilled on ConfigMap "{name}": the {words} in the precondition ({wrong}) does not '
        f"match the {words} in record ({made['metadata'][key]}). The object might have been "
    )
    assert server.admin.get(where).status == 200
    assert server.admin.delete(where, {"preconditions": {key: made["metadata"][key]}}).status == 200
    assert server.admin.get(where).status == 404


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation(server: Server, space: str, name: str, policy: str, finalizer: str) -> None:
    """The policy is kept as a finalizer, for the garbage collector to act on, until another one is asked for."""
    server.make(path("configmaps", space), config_map(name, finalizers=[FINALIZER]))
    answer = server.admin.delete(path("configmaps", space, name), {"propagationPolicy": policy})
    assert sorted(answer.body["metadata"]["finalizers"]) == sorted([finalizer, FINALIZER])
    answer = server.admin.delete(path("configmaps", space, name), {"propagationPolicy": "Background"})
    assert answer.body["metadata"]["finalizers"] == [FINALIZER]
    server.admin.patch(path("configmaps", space, name), {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("way", ["body", "query"])
def test_background_propagation(server: Server, space: str, name: str, way: str) -> None:
    """Background leaves no finalizer: the object goes at once."""
    server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    policy = {"propagationPolicy": "Background"}
    answer = server.admin.delete(where, policy) if way == "body" else server.admin.delete(where, **policy)
    assert (answer.status, answer.body["status"]) == (200, "Success")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"propagationPolicy": "Sideways"}, 422),
        ({"propagationPolicy": "Orphan", "orphanDependents": True}, 422),
        ({"dryRun": ["Some"]}, 422),
    ],
)
def test_options_that_are_refused(server: Server, space: str, name: str, body: object, status: int) -> None:
    """A deletion that cannot be understood deletes nothing."""
    server.make(path("configmaps", space), config_map(name))
    answer = server.admin.delete(path("configmaps", space, name), body)
    assert (answer.status, answer.body["kind"]) == (status, "Status"), answer.body
    assert answer.message.startswith('DeleteOptions.meta.k8s.io "" is invalid: ')
    assert server.admin.get(path("configmaps", space, name)).status == 200


def test_options_of_the_query(server: Server, space: str, name: str) -> None:
    """What the query asks for is checked like the body."""
    server.make(path("configmaps", space), config_map(name))
    where = path("configmaps", space, name)
    assert server.admin.delete(where, gracePeriodSeconds="soon").status == 400
    assert server.admin.delete(where, propagationPolicy="Sideways").status == 422
    assert server.admin.delete(where, dryRun="Some").status == 422
    assert server.admin.get(where).status == 200


def running_pod(server: Server, space: str, name: str) -> str:
    """A pod on a node; its path."""
    answer = server.admin.post(path("pods", space), pod(name, nodeName="n1", terminationGracePeriodSeconds=40))
    assert answer.status == 201, answer.body
    return path("pods", space, name)


def test_grace(server: Server, space: str, name: str) -> None:
    """A pod on a node terminates for its grace period, a shorter one shortens it, zero ends it."""
    where = running_pod(server, space, name)
    first = server.admin.delete(where).body["metadata"]
    assert (first["deletionGracePeriodSeconds"], bool(first["deletionTimestamp"])) == (40, True)
    longer = server.admin.delete(where, {"gracePeriodSeconds": 60}).body["metadata"]
    assert longer["deletionGracePeriodSeconds"] == 40
    shorter = server.admin.delete(where, {"gracePeriodSeconds": 5}).body["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < first["deletionTimestamp"]
    assert server.admin.delete(where, gracePeriodSeconds="0").status == 200
    assert server.admin.get(where).status == 404


def test_a_pod_without_a_node(server: Server, space: str, name: str) -> None:
    """Nobody runs it, nobody is waited for; the answer is the pod."""
    server.make(path("pods", space), pod(name))
    answer = server.admin.delete(path("pods", space, name))
    assert (answer.status, answer.body["kind"]) == (200, "Pod")
    assert server.admin.get(path("pods", space, name)).status == 404


def test_grace_of_other_kinds(server: Server, space: str, name: str) -> None:
    """Only pods have a grace period."""
    server.make(path("configmaps", space), config_map(name))
    assert server.admin.delete(path("configmaps", space, name), {"gracePeriodSeconds": 30}).status == 200
    assert server.admin.get(path("configmaps", space, name)).status == 404


def test_a_collection(server: Server, fresh: str) -> None:
    """Those the selector names go, held ones are Terminating, the others stay."""
    maps = path("configmaps", fresh)
    for one, labels in (("a", {"k": "x"}), ("b", {"k": "x"}), ("c", {"k": "y"})):
        server.make(maps, config_map(one, labels=labels, finalizers=[FINALIZER] if one == "b" else []))
    answer = server.admin.delete(maps, labelSelector="k=x")
    assert (answer.status, answer.body["kind"]) == (200, "ConfigMapList")
    assert answer.names == ["a", "b"]
    left = server.admin.get(maps, fieldSelector="metadata.name!=kube-root-ca.crt")
    assert left.names == ["b", "c"]
    assert left.body["items"][0]["metadata"]["deletionTimestamp"]
    server.admin.patch(f"{maps}/b", {"metadata": {"finalizers": None}})


def test_a_collection_of_ours(server: Server, fresh: str) -> None:
    """By field selector and whole."""
    identities = ours("azureidentities", fresh)
    for one in ("a", "b", "c"):
        server.make(identities, identity(one))
    assert server.admin.delete(identities, fieldSelector="metadata.name=b").status == 200
    assert server.admin.get(identities).names == ["a", "c"]
    assert server.admin.delete(identities).status == 200
    assert server.admin.get(identities).names == []


def test_a_namespace(server: Server, name: str) -> None:
    """It is Terminating, and nothing new comes into it."""
    server.make(path("namespaces"), {"metadata": {"name": name}})
    server.make(path("configmaps", name), config_map("held", finalizers=[FINALIZER]))
    answer = server.admin.delete(path("namespaces", name=name))
    assert (answer.status, answer.body["status"]["phase"]) == (200, "Terminating")
    answer = server.admin.post(path("configmaps", name), config_map("late"))
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert answer.message == (
        f'configmaps "late" is forbidden: unable to create new content in namespace {name} because it is being '
        "terminated"
    )
    cause = answer.body["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("NamespaceTerminating", "metadata.namespace")
    server.admin.patch(path("configmaps", name, "held"), {"metadata": {"finalizers": None}})


def test_what_is_never_deleted(server: Server) -> None:
    """The namespaces a cluster needs."""
    answer = server.admin.delete(path("namespaces", name="kube-system"))
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert answer.message == 'namespaces "kube-system" is forbidden: this namespace may not be deleted'


def test_deletion_is_watched(server: Server, fresh: str) -> None:
    """MODIFIED when it begins, DELETED with the last state when it ends."""
    maps = path("configmaps", fresh)
    server.make(maps, config_map("a", finalizers=[FINALIZER]))
    version = server.admin.get(maps).version
    with server.admin.watch(maps, resourceVersion=version, fieldSelector="metadata.name=a") as watch:
        server.admin.delete(f"{maps}/a")
        kind, obj = watch.next()
        assert (kind, bool(obj["metadata"]["deletionTimestamp"])) == ("MODIFIED", True)
        server.admin.patch(f"{maps}/a", {"metadata": {"finalizers": None}})
        kind, obj = watch.next()
        assert (kind, obj["metadata"]["name"]) == ("DELETED", "a")
        assert int(obj["metadata"]["resourceVersion"]) > int(version)
