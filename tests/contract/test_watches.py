"""Watches: where they begin, what they tell, how they end."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import config_map, identity, ours, path
from tests.contract.servers import Server

FINALIZER = "x.io/hold"


def labelled(name: str, colour: str) -> dict[str, Any]:
    """An identity with a label."""
    return {**identity(name), "metadata": {"name": name, "labels": {"colour": colour}}}


def test_what_comes_after_a_list(server: Server, fresh: str) -> None:
    """From a list's version on: every later change once, in order, with the version of its write."""
    maps = path("configmaps", fresh)
    server.make(maps, config_map("before"))
    version = server.admin.get(maps).version
    with server.admin.watch(maps, resourceVersion=version, fieldSelector="metadata.name=a") as watch:
        made = server.make(maps, config_map("a"))
        changed = server.admin.patch(f"{maps}/a", {"data": {"a": "2"}})
        server.admin.patch(f"{maps}/a", {"data": {"a": "2"}})
        server.make(maps, config_map("other"))
        server.admin.delete(f"{maps}/a")
        server.make(maps, config_map("a"))
        events = [watch.next() for _ in range(4)]
    assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]
    versions = [obj["metadata"]["resourceVersion"] for _, obj in events]
    assert versions[:2] == [made["metadata"]["resourceVersion"], changed.version]
    assert versions == sorted(versions, key=int)
    assert all((obj["kind"], obj["apiVersion"]) == ("ConfigMap", "v1") for _, obj in events)


def test_changes_while_nobody_watched(server: Server, fresh: str) -> None:
    """A watch from an earlier version replays what it missed."""
    where = ours("azureidentities", fresh)
    version = server.make(where, identity("a"))["metadata"]["resourceVersion"]
    server.admin.patch(f"{where}/a", {"spec": {"clientID": "2"}})
    server.admin.delete(f"{where}/a")
    with server.admin.watch(where, resourceVersion=version) as watch:
        assert watch.names(2) == [("MODIFIED", "a"), ("DELETED", "a")]


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
def test_from_the_beginning(server: Server, fresh: str, query: dict[str, str]) -> None:
    """Without a version, or from 0, the objects there are come first as ADDED."""
    where = ours("azureidentities", fresh)
    for name in ("b", "a"):
        server.make(where, identity(name))
    with server.admin.watch(where, **query) as watch:
        assert sorted(watch.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        server.make(where, identity("c"))
        assert watch.names(1) == [("ADDED", "c")]


def test_initial_events(server: Server, fresh: str) -> None:
    """A streamed list: the objects there are, then a bookmark that says they were all."""
    where = ours("azureidentities", fresh)
    server.make(where, identity("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with server.admin.watch(where, **query) as watch:
        assert watch.names(1) == [("ADDED", "a")]
        kind, obj = watch.next()
        assert (kind, obj["kind"]) == ("BOOKMARK", "AzureIdentity")
        assert obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(obj["metadata"]["resourceVersion"]) > 0
        server.make(where, identity("b"))
        assert watch.names(1) == [("ADDED", "b")]


def test_an_empty_streamed_list(server: Server, fresh: str) -> None:
    """Nothing there: the bookmark comes at once. Who wants no bookmarks gets none."""
    where = ours("azureidentities", fresh)
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "timeoutSeconds": "1"}
    with server.admin.watch(where, allowWatchBookmarks="true", **query) as watch:
        assert watch.next()[0] == "BOOKMARK"
    with server.admin.watch(where, **query) as watch:
        assert watch.rest() == []


def test_a_selection(server: Server, fresh: str) -> None:
    """An object that comes to match is ADDED, one that ceases to is DELETED as it last matched."""
    where = ours("azureidentities", fresh)
    version = server.admin.get(where).version
    with server.admin.watch(where, resourceVersion=version, labelSelector="colour=red") as watch:
        server.make(where, labelled("a", "blue"))
        server.admin.patch(f"{where}/a", {"metadata": {"labels": {"colour": "red"}}})
        server.admin.patch(f"{where}/a", {"spec": {"clientID": "2"}})
        left = server.admin.patch(f"{where}/a", {"metadata": {"labels": {"colour": "blue"}}, "spec": {"clientID": "3"}})
        server.admin.patch(f"{where}/a", {"spec": {"clientID": "4"}})
        server.admin.patch(f"{where}/a", {"metadata": {"labels": {"colour": "red"}}})
        server.admin.delete(f"{where}/a")
        events = [watch.next() for _ in range(5)]
    assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert [obj["spec"]["clientID"] for _, obj in events] == ["c", "2", "2", "4", "4"]
    assert {obj["metadata"]["labels"]["colour"] for _, obj in events} == {"red"}
    assert events[2][1]["metadata"]["resourceVersion"] == left.version


def test_the_last_state(server: Server, fresh: str) -> None:
    """DELETED shows the object as it was stored last, the finalizer that held it still there."""
    where = ours("azureidentities", fresh)
    server.make(where, {**identity("a"), "metadata": {"name": "a", "finalizers": [FINALIZER]}})
    version = server.admin.get(where).version
    with server.admin.watch(where, resourceVersion=version) as watch:
        server.admin.delete(f"{where}/a")
        server.admin.patch(f"{where}/a", {"metadata": {"finalizers": None, "labels": {"a": "b"}}})
        (first, begun), (second, ended) = watch.next(), watch.next()
    assert (first, second) == ("MODIFIED", "DELETED")
    assert begun["metadata"]["deletionTimestamp"] == ended["metadata"]["deletionTimestamp"]
    assert (ended["metadata"]["finalizers"], "labels" in ended["metadata"]) == ([FINALIZER], False)


def test_the_end(server: Server, space: str) -> None:
    """After its timeout a watch ends in an orderly way, events or none."""
    version = server.admin.get(path("configmaps", space)).version
    with server.admin.watch(path("configmaps", space), resourceVersion=version, timeoutSeconds="1") as watch:
        assert (watch.status, watch.rest()) == (200, [])


def test_an_old_version(server: Server, fresh: str) -> None:
    """A version that is forgotten is told by an ERROR event, a Status of 410 Expired, and the watch ends."""
    server.make(ours("azureidentities", fresh), identity("a"))
    server.compact()
    with server.admin.watch(ours("azureidentities", fresh), resourceVersion="2") as watch:
        kind, status = watch.next()
        assert (watch.status, kind) == (200, "ERROR")
        assert (status["code"], status["reason"], status["status"]) == (410, "Expired", "Failure")
        assert status["message"].startswith("too old resource version: 2 (")
        assert watch.next() == ("END", {})


def test_a_version_to_come(server: Server, fresh: str) -> None:
    """A watch from a version that is not there yet waits for what comes after it."""
    where = ours("azureidentities", fresh)
    made = server.make(where, identity("a"))
    version = int(made["metadata"]["resourceVersion"]) + 100
    with server.admin.watch(where, resourceVersion=str(version), timeoutSeconds="1") as watch:
        server.admin.patch(f"{where}/a", {"spec": {"clientID": "2"}})
        assert (watch.status, watch.rest()) == (200, [])


def test_one_name(server: Server, fresh: str) -> None:
    """One object is watched by a field selector; at its own path ``watch`` means nothing."""
    where = ours("azureidentities", fresh)
    for name in ("a", "b"):
        server.make(where, identity(name))
    with server.admin.watch(where, fieldSelector="metadata.name=b", timeoutSeconds="1") as watch:
        assert [obj["metadata"]["name"] for _, obj in watch.rest()] == ["b"]
    assert server.admin.get(f"{where}/a", watch="true").name == "a"
    assert server.admin.get(f"{where}/none", watch="true").status == 404


def test_other_namespaces(server: Server, fresh: str, space: str) -> None:
    """A watch of a namespace sees nothing of others, one of all sees both; one that does not exist is quiet."""
    version = server.admin.get(path("configmaps")).version
    with (
        server.admin.watch(path("configmaps", fresh), resourceVersion=version) as own,
        server.admin.watch(path("configmaps"), resourceVersion=version, labelSelector="seen") as every,
    ):
        server.make(path("configmaps", space), config_map("seen-elsewhere", labels={"seen": "1"}))
        server.make(path("configmaps", fresh), config_map("seen-here", labels={"seen": "2"}))
        assert every.names(2) == [("ADDED", "seen-elsewhere"), ("ADDED", "seen-here")]
        names = [name for _, name in own.names(1) if name != "kube-root-ca.crt"] or [own.names(1)[0][1]]
        assert names == ["seen-here"]
    with server.admin.watch(path("configmaps", "nowhere"), timeoutSeconds="1") as watch:
        assert (watch.status, watch.rest()) == (200, [])


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"resourceVersion": "x"}, 500, 'resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid'),
        ({"timeoutSeconds": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"labelSelector": "a b"}, 400, "unable to parse requirement: found 'b', expected: in, notin, ="),
        ({"fieldSelector": "spec.none=1"}, 400, "field label not supported: spec.none"),
        ({"sendInitialEvents": "true"}, 422, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ({"resourceVersionMatch": "NotOlderThan"}, 422, "is forbidden for watch unless sendInitialEvents is provided"),
        ({"continue": "x"}, 422, "resourceVersionMatch is forbidden when continue is provided"),
    ],
)
def test_queries_that_are_refused(server: Server, space: str, query: dict[str, str], status: int, message: str) -> None:
    """A watch that makes no sense is refused before it begins, with a Status."""
    answer = server.admin.get(ours("azureidentities", space), **{"watch": "true", **query})
    assert (answer.status, message in answer.message) == (status, True), answer.message
