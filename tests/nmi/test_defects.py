"""Defects of the original that no other test is about, by their numbers in the contract."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.nmi.conftest import Bench, Make, Start, until
from tests.nmi.stand_in import StandIn

from podidentity.config.nmi import nmi_settings
from podidentity.nmi.assembly import imds_client

SHORT = ("--find-identity-retry-interval=0", "--retry-attempts-for-created=1")
INSTANCE = "/metadata/instance?api-version=2021-02-01"


async def test_d3_only_foreign_identities_in_namespaced_mode_is_a_404(start: Start, make: type[Make]) -> None:
    """A pod whose identities all live elsewhere is told that it has none, whether it names one or not."""
    bench = await start("--forceNamespaced", *SHORT)
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod, make.identity(namespace="other")))
    for query in ("", "&client_id=client-of-app"):
        reply = await bench.token(query=query)
        assert (reply.status, reply.json["error"]) == (404, "invalid_request")
    assert bench.imds.calls == []


async def test_a4_namespaced_mode_keeps_an_identity_in_its_namespace(start: Start, make: type[Make]) -> None:
    """Who may create pods elsewhere gets nothing by the label: by flag, or by the identity's own annotation."""
    behaviour = {"aadpodidentity.k8s.io/Behavior": "namespaced"}
    for flags, identity in (
        (("--forceNamespaced", *SHORT), make.identity(namespace="owners")),
        (SHORT, make.identity(namespace="owners", annotations=behaviour)),
    ):
        bench = await start(*flags)
        thief, owner = make.pod("thief", "team"), make.pod("owner", "owners", ip="127.1.0.2")
        bench.put_pod(thief, owner)
        bench.put_assigned(make.assigned(thief, identity), make.assigned(owner, identity))
        assert (await bench.token("127.1.0.1")).status == 404
        assert (await bench.token("127.1.0.2")).status == 200


async def test_d10_what_a_caller_reads_names_no_pods(start: Start, make: type[Make]) -> None:
    """Of two pods with one address the caller learns nothing, neither their names nor what is in them."""
    bench = await start()
    bench.put_pod(make.pod("secretive", labels={"password": "hunter2"}), make.pod("other"))
    reply = await bench.token()
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert b"secretive" not in reply.body
    assert b"hunter2" not in reply.body


async def test_d14_tokens_come_from_the_configured_address(start: Start, make: type[Make], stand_in: StandIn) -> None:
    """--metadata-ip and --metadata-port are where tokens are asked for, not documents alone."""
    settings = nmi_settings(["--node=n", "--metadata-ip=127.0.0.1", f"--metadata-port={stand_in.port}"], {})
    client = imds_client(settings)
    bench = await start(imds=client)
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.token()).status == 200
    assert (await bench.get(INSTANCE, "127.1.0.1")).status == 200
    await client.close()
    assert [target.partition("?")[0] for target in stand_in.targets] == [
        "/metadata/identity/oauth2/token",
        "/metadata/instance",
    ]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"a" * 9_000_000, 503),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"nonsense\r\n\r\n", 503),
    ],
)
async def test_d15_documents_are_proxied_within_limits(
    start: Start, stand_in: StandIn, raw: bytes, status: int
) -> None:
    """No redirect is followed, no endless body read, and what is no HTTP is said in IMDS's shape."""
    bench = await start(imds=stand_in.client())
    stand_in.raw.append(raw)
    assert (await bench.get(INSTANCE)).status == status


async def test_d15_headers_of_one_connection_stay_on_it(start: Start, stand_in: StandIn) -> None:
    """Of an answer's headers the pod reads the type of the body, and nothing that was said to the agent."""
    bench = await start(imds=stand_in.client())
    lines = "Connection: close\r\nKeep-Alive: 5\r\nSet-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nTrailer: x"
    stand_in.raw.append(
        f"HTTP/1.1 200 OK\r\n{lines}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok".encode()
    )
    reply = await bench.get(INSTANCE)
    assert (reply.body, reply.headers["content-type"], reply.headers["connection"]) == (
        b"ok",
        "text/plain",
        "keep-alive",
    )
    assert not {"keep-alive", "set-cookie", "access-control-allow-origin", "trailer"} & set(reply.headers)


async def test_d16_every_kind_of_refusal_is_json(start: Start, make: type[Make]) -> None:
    """Not found, forbidden, not allowed, too busy, broken: each is an object with error and error_description."""
    bench = await start("--block-instance-metadata", *SHORT)
    bench.put_pod(make.pod())
    replies = [
        await bench.token(),
        await bench.token("127.0.0.1"),
        await bench.get(INSTANCE),
        await bench.get("/nowhere"),
        await bench.get("/host/token?resource=r", podname="ghost", podns="team"),
        await bench.send(b"POST /metadata/identity/oauth2/token HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\n\r\n"),
        await bench.send(b"nonsense\r\n\r\n"),
    ]
    assert [reply.status for reply in replies] == [404, 403, 403, 404, 404, 405, 400]
    for reply in replies:
        assert reply.headers["content-type"].startswith("application/json")
        assert set(json.loads(reply.body)) == {"error", "error_description"}


async def test_d17_the_callers_trouble_is_no_500(start: Start, make: type[Make]) -> None:
    """A pod without identity is told so, and a Secret that is not there is no reason to try again."""
    bench = await start(*SHORT)
    bench.put_pod(make.pod("bare"), make.pod("principal", ip="127.1.0.2"))
    assert (await bench.token()).status == 404
    principal = make.identity("sp", type_=1, secret="gone")
    bench.put_assigned(make.assigned(make.pod("principal"), principal))
    refused = await bench.token("127.1.0.2")
    assert refused.status == 403
    assert "retry-after" not in refused.headers


async def test_d33_assignment_of_an_earlier_pod_of_the_name_is_not_the_new_ones(start: Start, make: type[Make]) -> None:
    """A StatefulSet's next pod waits for its own assignment; the record of the pod before it does not count."""
    bench = await start()
    old, new = make.pod(uid="one"), make.pod(uid="two", version="2")
    by_uid = {"aadpodidentity.k8s.io/pod-uid": "one"}
    bench.put_pod(new)
    bench.put_assigned(make.assigned(old, annotations=by_uid))
    waiting = asyncio.ensure_future(bench.token())
    await until(lambda: bench.app.cluster.waiters.held == 1)
    assert bench.imds.calls == []
    bench.put_assigned(make.assigned(new, annotations={next(iter(by_uid)): "two"}, version="2"))
    assert (await waiting).status == 200


async def test_a6_the_agent_asks_no_proxy(start: Start, stand_in: StandIn, make: type[Make]) -> None:
    """A proxy in the environment gets neither the pods' tokens nor their questions."""
    environ = {
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }
    bench: Bench = await start(imds=stand_in.client(environ))
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.token()).status == 200
    assert (await bench.get(INSTANCE, "127.1.0.1")).status == 200
    assert len(stand_in.targets) == 2
