"""Leases, Endpoints and Events: what leader election and event recording write, and what is refused of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import path
from tests.contract.servers import MERGE, STRATEGIC, Server

LEASES, ENDPOINTS, EVENTS = "leases.coordination.k8s.io", "endpoints", "events"
LEADER = "control-plane.alpha.kubernetes.io/leader"
TIME = "2026-11-25T10:00:00.123456Z"
DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def lease(name: str, **spec: Any) -> dict[str, Any]:
    """A Lease."""
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}


def event(name: str, namespace: str, **more: Any) -> dict[str, Any]:
    """An Event about a pod."""
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "p", "uid": "u"}
    times = {"firstTimestamp": "2026-11-25T10:00:00Z", "lastTimestamp": "2026-11-25T10:00:00Z"}
    said = {"reason": "Bound", "message": "it was bound", "type": "Normal", "count": 1, "source": {"component": "mic"}}
    return {"metadata": {"name": name}, "involvedObject": about, **said, **times, **more}


def test_a_lease(server: Server, space: str, name: str) -> None:
    """Kept as written, to the microsecond; an update says which version it is of, and loses when that is stale."""
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "leaseTransitions": 0}
    made = server.make(path(LEASES, space), lease(name, **spec, acquireTime=TIME, renewTime=TIME))
    assert made["spec"] == {**spec, "acquireTime": TIME, "renewTime": TIME}
    assert "generation" not in made["metadata"]
    where = path(LEASES, space, name)
    blind = server.admin.put(where, lease(name, holderIdentity="two"))
    assert (blind.status, "metadata.resourceVersion: Invalid value: 0" in blind.message) == (422, True)
    renewed = server.admin.put(where, {**made, "spec": {**made["spec"], "renewTime": "2026-11-25T10:00:02.000000Z"}})
    assert renewed.status == 200
    stale = server.admin.put(where, {**made, "spec": {**made["spec"], "holderIdentity": "two"}})
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert server.admin.get(where).body["spec"]["holderIdentity"] == "one"


def test_a_lease_given_up(server: Server, space: str, name: str) -> None:
    """An empty holder is a value of its own."""
    made = server.make(path(LEASES, space), lease(name, holderIdentity="one", renewTime=TIME))
    made["spec"]["holderIdentity"] = ""
    assert server.admin.put(path(LEASES, space, name), made).body["spec"]["holderIdentity"] == ""


@pytest.mark.parametrize(
    ("spec", "status", "message"),
    [
        ({"leaseDurationSeconds": 0}, 422, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
        ({"leaseTransitions": -1}, 422, "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"leaseDurationSeconds": "15"},
            400,
            "json: cannot unmarshal string into Go struct field LeaseSpec.spec.lease",
        ),
        ({"leaseDurationSeconds": 1.5}, 400, "json: cannot unmarshal number 1.5 into Go struct field LeaseSpec.spec."),
        ({"leaseDurationSeconds": 2**31}, 400, "leaseDurationSeconds of type int32"),
        ({"renewTime": "now"}, 400, 'parsing time "now" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "now" as'),
        ({"renewTime": "2026-11-25T10:00:00Z"}, 400, 'cannot parse "Z" as ".000000"'),
        ({"renewTime": "2026-11-25T10:00:00.1234567Z"}, 400, 'cannot parse "7Z" as "Z07:00"'),
    ],
)
def test_leases_that_are_refused(server: Server, space: str, spec: dict[str, Any], status: int, message: str) -> None:
    """Times without microseconds and durations of nothing are no lease."""
    answer = server.admin.post(path(LEASES, space), lease("refused", **spec))
    assert (answer.status, message in answer.message) == (status, True), answer.message


def test_a_time_of_another_zone(server: Server, space: str, name: str) -> None:
    """Times are kept in UTC."""
    made = server.make(path(LEASES, space), lease(name, renewTime="2026-11-25T12:00:00.000001+02:00"))
    assert made["spec"]["renewTime"] == "2026-11-25T10:00:00.000001Z"


def test_an_endpoints_record(server: Server, space: str, name: str) -> None:
    """A leader's record is an annotation, kept byte by byte; the deprecation is a warning of each answer."""
    record = '{"holderIdentity":"one","leaseDurationSeconds":15,"renewTime":"2026-11-25T10:00:00Z"}'
    obj = {"metadata": {"name": name, "annotations": {LEADER: record}}}
    made = server.admin.post(path(ENDPOINTS, space), obj)
    assert (made.status, made.warnings) == (201, [DEPRECATED])
    assert made.body["metadata"]["annotations"][LEADER] == record
    where = path(ENDPOINTS, space, name)
    renewed = server.admin.put(
        where, {**made.body, "metadata": {**made.body["metadata"], "annotations": {LEADER: "2"}}}
    )
    assert (renewed.status, renewed.warnings) == (200, [DEPRECATED])
    stale = server.admin.put(where, made.body)
    assert (stale.status, stale.reason, stale.warnings) == (409, "Conflict", [DEPRECATED])


@pytest.mark.parametrize("resource", [LEASES, ENDPOINTS])
def test_a_record_that_was_deleted(server: Server, space: str, name: str, resource: str) -> None:
    """Whoever goes on renewing a deleted record is told so, as long as it names the uid it knew."""
    made = server.make(path(resource, space), {"metadata": {"name": name}})
    where = path(resource, space, name)
    server.admin.delete(where)
    answer = server.admin.put(where, made)
    assert (answer.status, answer.reason) == (409, "Conflict")
    assert "Precondition failed: UID in precondition: " in answer.message
    anew = server.admin.put(where, {"metadata": {"name": name, "resourceVersion": made["metadata"]["resourceVersion"]}})
    assert (anew.status, anew.body["metadata"]["uid"] != made["metadata"]["uid"]) == (201, True)


def test_addresses(server: Server, space: str, name: str) -> None:
    """Endpoints hold addresses, a port is one of TCP unless it says otherwise."""
    subsets = [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]
    made = server.make(path(ENDPOINTS, space), {"metadata": {"name": name}, "subsets": subsets})
    assert made["subsets"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    empty = server.admin.post(path(ENDPOINTS, space), {"metadata": {"name": f"{name}-none"}, "subsets": None})
    assert (empty.status, "subsets" in empty.body) == (201, False)


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ({}, "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
        ({"addresses": [{"ip": "x"}]}, 'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address'),
        ({"addresses": [{"ip": "127.0.0.1"}]}, 'Invalid value: "127.0.0.1": may not be in the loopback range'),
        ({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 0}]}, "ports[0].port: Invalid value: 0: must be"),
        ({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}, {"port": 2}]}, "ports[1].name: Required value"),
    ],
)
def test_addresses_that_are_refused(server: Server, space: str, subset: dict[str, Any], message: str) -> None:
    """An address nobody can reach, a port without number or name."""
    answer = server.admin.post(path(ENDPOINTS, space), {"metadata": {"name": "refused"}, "subsets": [subset]})
    assert (answer.status, message in answer.message) == (422, True), answer.message


def test_an_event(server: Server, space: str, name: str) -> None:
    """Recorded, counted up by each kind of patch, and with the fields empty that clients expect to be there."""
    made = server.make(path(EVENTS, space), event(name, space))
    assert {key: made[key] for key in ("eventTime", "reportingComponent", "reportingInstance")} == {
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    where = path(EVENTS, space, name)
    for count, content_type in ((2, STRATEGIC), (3, MERGE)):
        change = {"count": count, "lastTimestamp": "2026-11-25T11:00:00Z"}
        answer = server.admin.patch(where, change, content_type)
        assert (answer.status, answer.body["count"]) == (200, count)
        assert answer.body["firstTimestamp"] == "2026-11-25T10:00:00Z"


def test_events_of_an_object(server: Server, fresh: str) -> None:
    """``kubectl describe`` finds events by what they are about, who reports and how."""
    server.make(path(EVENTS, fresh), event("a", fresh))
    server.make(path(EVENTS, fresh), event("b", fresh, reason="Failed", type="Warning"))
    for selector, names in (
        ("involvedObject.kind=Pod,involvedObject.name=p,involvedObject.uid=u", ["a", "b"]),
        (f"involvedObject.namespace={fresh},reason=Failed", ["b"]),
        ("type!=Normal", ["b"]),
        ("source=mic", ["a", "b"]),
        ("involvedObject.name=other", []),
    ):
        assert server.admin.get(path(EVENTS, fresh), fieldSelector=selector).names == names, selector


def test_events_elsewhere(server: Server, space: str, name: str) -> None:
    """An event lives with its object; those of nodes live in ``default``."""
    other = {"kind": "Pod", "namespace": "other", "name": "p"}
    node = {"kind": "Node", "name": "n"}
    for about, namespace in ((other, "other"), (node, "")):
        answer = server.admin.post(path(EVENTS, space), event("refused", space, involvedObject=about))
        assert answer.status == 422
        message = f'involvedObject.namespace: Invalid value: "{namespace}": does not match event.namespace'
        assert message in answer.message
    made = server.make(path(EVENTS, "default"), event(name, "default", involvedObject=node))
    assert made["involvedObject"] == node
    server.admin.delete(path(EVENTS, "default", name))
