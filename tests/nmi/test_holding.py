"""How long an early request is held, and what it is told then."""

from __future__ import annotations

import asyncio

import pytest
from tests.nmi.conftest import NODE, Make, Start, until
from tests.nmi.fakes import jwt

from podidentity.api.constants import STATE_CREATED
from podidentity.nmi.authorize import Policy, Refuse, Serve, Stage, Wait, decide, waited_in_vain
from podidentity.rules.identity_choice import ANY, Named, from_assigned

POLICY = Policy(node=NODE)
SHORT = ("--find-identity-retry-interval=1", "--retry-attempts-for-created=0", "--retry-attempts-for-assigned=0")


def test_hold_is_as_long_as_the_flags_imply(make: type[Make]) -> None:
    """Nothing created: 16 intervals; created, not assigned: 20; all there but another one named: one."""
    pod = make.pod()
    created = from_assigned(pod, [make.assigned(pod, state=STATE_CREATED)], node=NODE, force_namespaced=False)
    assigned = from_assigned(pod, [make.assigned(pod)], node=NODE, force_namespaced=False)
    assert decide(pod, [], ANY, POLICY) == Wait(Stage.CREATED, 16)
    assert decide(pod, created, ANY, POLICY) == Wait(Stage.ASSIGNED, 20)
    assert decide(pod, assigned, Named(client_id="other"), POLICY) == Wait(Stage.CREATED, 1)
    assert isinstance(decide(pod, assigned, ANY, POLICY), Serve)


def test_pod_without_label_is_refused_at_once(make: type[Make]) -> None:
    """A pod no binding can select does not wait for one; what it has been assigned is served all the same."""
    pod = make.pod(label=None)
    refused = decide(pod, [], Named(client_id="0123456789abcdef"), POLICY)
    assert isinstance(refused, Refuse)
    assert refused.reason == (
        "no azure identity found for request clientID 0123##### REDACTED #####cdef: "
        "pod team/web has no label aadpodidbinding"
    )
    record = from_assigned(pod, [make.assigned(pod)], node=NODE, force_namespaced=False)
    assert isinstance(decide(pod, record, ANY, POLICY), Serve)


def test_texts_people_grep(make: type[Make]) -> None:
    """The original's words for a wait in vain, with and without a client id."""
    pod = make.pod()
    assert waited_in_vain(pod, ANY, Wait(Stage.CREATED, 16), POLICY) == (
        "getting assigned identities for pod team/web in CREATED state failed after 16 attempts, retry duration [5]s, "
        "error: <nil>. Check MIC pod logs for identity assignment errors"
    )
    text = waited_in_vain(pod, Named(client_id="0123456789abcdef"), Wait(Stage.ASSIGNED, 20), POLICY)
    assert text.startswith("clientID in request: 0123##### REDACTED #####cdef, getting assigned identities")
    assert "in ASSIGNED state failed after 20 attempts" in text


async def test_no_identity_is_404_or_503_with_retry_after(start: Start, make: type[Make]) -> None:
    """Internal retries off: 404 by default, 503 with Retry-After 20 under the flag, and always 404 for the host."""
    for flags, status, after in ((SHORT, 404, None), ((*SHORT, "--set-retry-after-header"), 503, "20")):
        bench = await start(*flags)
        bench.put_pod(make.pod())
        reply = await bench.token()
        assert (reply.status, reply.headers.get("retry-after")) == (status, after)
        assert "failed after 0 attempts" in reply.json["error_description"]
        host = await bench.get("/host/token?resource=r", podname="web", podns="team")
        assert host.status == 404


async def test_hold_ends_after_its_time(start: Start, make: type[Make]) -> None:
    """A held request is answered when its time is up, not before and not much later."""
    bench = await start("--find-identity-retry-interval=1", "--retry-attempts-for-created=1")
    bench.put_pod(make.pod())
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert (await bench.token()).status == 404
    assert 0.9 < loop.time() - before < 2.0


async def test_exception_made_while_a_request_waits_lets_it_pass(start: Start, make: type[Make]) -> None:
    """A held request is judged anew when an exception comes, not only when an assignment does."""
    bench = await start()
    bench.put_pod(make.pod(labels={"app": "addon"}))
    waiting = asyncio.ensure_future(bench.token())
    await until(lambda: bench.app.cluster.waiters.held == 1)
    bench.put_exception(make.exception({"app": "addon"}))
    assert (await waiting).json["client_id"] == "client-of-node"


async def test_pod_that_goes_while_it_waits_is_told(start: Start, make: type[Make]) -> None:
    """The deletion of the pod, or another pod of its name, ends the wait at once."""
    bench = await start()
    pod = make.pod()
    for end in (lambda: bench.drop_pod(pod), lambda: bench.put_pod(make.pod(uid="another", version="2"))):
        bench.put_pod(pod)
        waiting = asyncio.ensure_future(bench.token())
        await until(lambda: bench.app.cluster.waiters.held == 1)
        end()
        reply = await waiting
        assert (reply.status, reply.json["error_description"]) == (404, "pod team/web is gone")


async def test_pod_that_loses_its_address_while_it_waits_gets_nothing(start: Start, make: type[Make]) -> None:
    """A pod that has ended does not get a token through a request from its former address."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    waiting = asyncio.ensure_future(bench.token())
    await until(lambda: bench.app.cluster.waiters.held == 1)
    bench.put_pod(make.pod(phase="Succeeded", version="2"))
    bench.put_assigned(make.assigned(pod))
    assert (await waiting).status == 404
    assert bench.imds.calls == []


async def test_requests_before_the_first_list_wait_or_come_back(start: Start, make: type[Make]) -> None:
    """Before the cluster is known nobody is judged: a request waits for it, and is served once it is there."""
    bench = await start()
    bench.app.synced.clear()
    pod = make.pod(label=None, labels={"app": "addon"})
    bench.put_pod(pod)
    waiting = asyncio.ensure_future(bench.token())
    await until(lambda: bench.app.server.in_flight == 1)
    bench.app.cluster.exceptions.replace_all([make.exception({"app": "addon"})])
    bench.app.synced.set()
    assert (await waiting).json["client_id"] == "client-of-node"


async def test_d6_object_id_is_found_among_the_pods_own(start: Start, make: type[Make]) -> None:
    """An object id gets the token whose oid it is, of the pod's own identities only; never another one's."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod, make.identity("a")), make.assigned(pod, make.identity("b")))
    found = await bench.token(query="&object_id=OID-of-client-of-b")
    assert (found.status, found.json["client_id"]) == (200, "client-of-b")
    missing = await bench.token(query="&object_id=somebody-else")
    assert (missing.status, missing.json["error_description"]) == (400, "Identity not found")
    assert {call["object_id"] for call in bench.imds.calls} == {""}


async def test_d6_object_id_of_an_identity_that_is_on_its_way(start: Start, make: type[Make]) -> None:
    """An early request by object id is held like one by client id, though another identity of the pod is there."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    first, second = make.identity("a"), make.identity("b")
    bench.put_assigned(make.assigned(pod, first), make.assigned(pod, second, state=STATE_CREATED))
    waiting = asyncio.ensure_future(bench.token(query="&object_id=oid-of-client-of-b"))
    await until(lambda: bench.app.cluster.waiters.held == 1)
    bench.put_assigned(make.assigned(pod, second, version="2"))
    answer = await waiting
    assert (answer.status, answer.json["client_id"]) == (200, "client-of-b")


async def test_d4_several_identities_and_none_named_is_always_the_same(start: Start, make: type[Make]) -> None:
    """The first by binding is served every time, with one warning in the log."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod, make.identity("z")), make.assigned(pod, make.identity("b")))
    assert {(await bench.token()).json["client_id"] for _ in range(5)} == {"client-of-b"}
    assert bench.log.getvalue().count("has several identities and named none") == 1


RESOURCE_ID = "/SUBSCRIPTIONS/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/APP"


@pytest.mark.parametrize(
    "query", ["&client_id=CLIENT-OF-APP", f"&mi_res_id={RESOURCE_ID}", f"&msi_res_id={RESOURCE_ID}"]
)
async def test_d5_named_identity_is_found_in_any_case(start: Start, make: type[Make], query: str) -> None:
    """Client and resource ids are compared case-insensitively to the end."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    reply = await bench.token(query=query)
    assert (reply.status, reply.json["client_id"]) == (200, "client-of-app")
    assert jwt(oid="oid-of-client-of-app", n="1") == reply.json["access_token"]


async def test_unknown_source_is_told_to_come_back(start: Start) -> None:
    """An address nobody knows gets 503 with Retry-After 1, the node's own address 403 at once."""
    bench = await start()
    reply = await bench.token("127.0.0.1")
    assert (reply.status, reply.json["error"]) == (403, "access_denied")
    late = await bench.token("127.5.5.5")
    assert (late.status, late.headers["retry-after"]) == (503, "1")
