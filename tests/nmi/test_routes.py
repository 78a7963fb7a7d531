"""Everything that is not a pod's own token: named pods, exceptions, documents, other kinds of identity."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.nmi.conftest import Bench, Make, Start, until

from podidentity.azure.errors import AzureUnavailable, TokenError

HOST = "/host/token/?resource=https://vault.azure.net"


def entitle(bench: Bench, make: type[Make]) -> None:
    """Give team/web an identity."""
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))


async def test_host_token_for_a_named_pod(start: Start, make: type[Make]) -> None:
    """The CSI provider on the node gets a pod's token and client id, without a Metadata header."""
    bench = await start()
    entitle(bench, make)
    raw = f"GET {HOST} HTTP/1.1\r\nHost: localhost:2579\r\npodname: web\r\npodns: team\r\n\r\n"
    reply = await bench.send(raw.encode())
    assert reply.status == 200
    body = json.loads(reply.body)
    assert body["clientid"] == "client-of-app"
    assert body["token"]["access_token"]
    assert body["token"]["resource"] == "https://vault.azure.net"


@pytest.mark.parametrize(
    ("source", "name", "namespace", "status", "words"),
    [
        ("127.0.0.1", "", "", 400, "missing 'podname' and 'podns'"),
        ("127.0.0.1", "web", "", 400, "missing 'podname' and 'podns'"),
        ("127.0.0.1", "ghost", "team", 404, "does not run on this node"),
        ("127.0.0.1", "web", "other", 404, "does not run on this node"),
    ],
)
async def test_host_token_refusals(  # noqa: PLR0917 - a table
    start: Start, make: type[Make], source: str, name: str, namespace: str, status: int, words: str
) -> None:
    """Without both headers, or for a pod that is not here, there is no token."""
    bench = await start()
    entitle(bench, make)
    headers = {"podname": name, "podns": namespace}
    reply = await bench.get(HOST, source, **{key: value for key, value in headers.items() if value})
    assert reply.status == status
    assert words in reply.json["error_description"]


async def test_d25_host_token_is_for_pods_of_this_node_only(start: Start, make: type[Make]) -> None:
    """A pod of another node is refused even though the API server knows it."""
    bench = await start()
    bench.api.pods.append(make.pod("far", node="node-1"))
    reply = await bench.get(HOST, podname="far", podns="team")
    assert reply.status == 404


async def test_host_token_wants_a_loopback_caller(start: Start, make: type[Make]) -> None:
    """A pod cannot ask for another pod's token: only loopback may (the gate is asked: sockets here are loopback)."""
    from podidentity.nmi.gate import GateRules, admit, understand  # noqa: PLC0415 - next to its use
    from podidentity.nmi.request import Headers, Request  # noqa: PLC0415 - next to its use

    headers = Headers()
    for name, value in ((b"Host", b"localhost"), (b"podname", b"web"), (b"podns", b"team")):
        headers.add(name, value)
    target = understand(HOST.encode())
    rules = GateRules(hosts=frozenset({"localhost"}))
    for peer, expected in (("10.244.0.7", 403), ("::ffff:10.0.0.1", 403), ("127.0.0.1", None), ("::1", None)):
        refusal = admit(Request("GET", HOST.encode(), headers, peer), target, rules)
        assert (refusal.status if refusal else None) == expected


async def test_host_token_waits_for_a_pending_pod(start: Start, make: type[Make]) -> None:
    """A volume is mounted before the pod has an address: the request is held for the assignment all the same."""
    bench = await start()
    pod = make.pod(ip="", phase="Pending")
    bench.put_pod(pod)
    waiting = asyncio.ensure_future(bench.get(HOST, podname="web", podns="team"))
    await until(lambda: bench.app.cluster.waiters.held == 1)
    bench.put_assigned(make.assigned(pod))
    assert (await waiting).status == 200


async def test_d9_excepted_pod_gets_the_identity_it_names(start: Start, make: type[Make]) -> None:
    """A pod with one label of an exception is passed through to what it names, else the default identity."""
    bench = await start()
    pod = make.pod(label=None, labels={"app": "Addon", "x": "1"})
    bench.put_pod(pod)
    bench.app.cluster.exceptions.replace_all([make.exception({"app": "addon", "never": "there"})])
    assert (await bench.token()).json["client_id"] == "client-of-node"
    await bench.token(query="&client_id=ABC")
    await bench.token(query="&msi_res_id=/Sub/Id")
    await bench.token(query="&object_id=OID")
    asked = [{k: v for k, v in call.items() if v and k != "resource"} for call in bench.imds.calls]
    assert asked == [{}, {"client_id": "abc"}, {"resource_id": "/sub/id"}, {"object_id": "oid"}]


@pytest.mark.parametrize(
    ("owner", "namespace", "passes"),
    [
        ("mic-7d9f8c5b6", "default", True),
        ("aad-pod-identity-mic-7d9f8c5b6", "default", True),
        ("microservice-7d9f8c5b6", "default", False),
        ("mic-7d9f8c5b6", "team", False),
        ("mic-other-7d9f8c5b6", "default", False),
        ("xmic-7d9f8c5b6", "default", False),
        ("mic-", "default", False),
    ],
)
async def test_d7_only_mics_own_pods_pass(
    start: Start, make: type[Make], owner: str, namespace: str, passes: bool
) -> None:
    """A pod of mic is known by namespace and its ReplicaSet's exact name; a neighbour named microservice is not mic."""
    bench = await start()
    bench.put_pod(make.pod("m", namespace, label=None, owner=owner))
    assert (await bench.token()).status == (200 if passes else 404)


async def test_instance_metadata_is_forwarded_as_it_came(start: Start) -> None:
    """The instance document reaches the pod with IMDS's status, type and body; the target is sent in plain form."""
    bench = await start()
    reply = await bench.get("/MetaData/instance/compute/vmId?api-version=2021-02-01&format=text")
    assert (reply.status, reply.body) == (200, b'{"compute":{}}')
    assert "x-more" not in reply.headers
    assert bench.imds.forwarded == ["/metadata/instance/compute/vmId?api-version=2021-02-01&format=text"]


async def test_blocked_instance_metadata_is_403(start: Start) -> None:
    """With --block-instance-metadata the document is refused, the rest is not."""
    bench = await start("--block-instance-metadata")
    reply = await bench.get("/metadata/instance?api-version=2021-02-01")
    assert reply.status == 403
    assert reply.json["error_description"] == "Request blocked by AAD Pod Identity NMI"
    assert (await bench.get("/metadata/versions")).status == 200


async def test_header_may_be_made_optional(start: Start, make: type[Make]) -> None:
    """--metadata-header-required=false serves a request without the header, as v1.7.3 did."""
    bench = await start("--metadata-header-required=false")
    entitle(bench, make)
    raw = b"GET /metadata/identity/oauth2/token?resource=x HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"
    assert (await bench.send(raw, "127.1.0.1")).status == 200


async def test_managed_mode_reads_bindings(start: Start, make: type[Make]) -> None:
    """In managed mode the pod's label, a binding and an identity of its namespace are enough, and nothing waits."""
    bench = await start("--operation-mode=managed", "--forceNamespaced")
    pod = make.pod()
    bench.put_pod(pod, make.pod("bare", ip="127.1.0.2", label=None))
    record = make.assigned(pod)
    bench.app.cluster.identities.replace_all([record.spec.azure_identity_ref])
    bench.app.cluster.bindings.replace_all([record.spec.azure_binding_ref])
    assert (await bench.token()).json["client_id"] == "client-of-app"
    refused = await bench.token("127.1.0.2")
    assert (refused.status, refused.json["error_description"]) == (
        404,
        "no azure identity found for request clientID ",
    )


@pytest.mark.parametrize(
    ("failure", "status", "code", "retry"),
    [
        (TokenError(400, "invalid_request", "Identity not found"), 400, "invalid_request", None),
        (TokenError(429, "invalid_request", "Temporarily throttled", 30.0), 429, "invalid_request", "30"),
        (AzureUnavailable("no route"), 503, "temporarily_unavailable", "20"),
        (TokenError(410, "gone", "", 40.0), 410, "gone", "40"),
    ],
)
async def test_d17_what_imds_says_reaches_the_sdk(  # noqa: PLR0917 - a table
    start: Start, make: type[Make], failure: Exception, status: int, code: str, retry: str | None
) -> None:
    """IMDS's refusals keep their status, words and Retry-After."""
    bench = await start()
    entitle(bench, make)
    if isinstance(failure, AzureUnavailable):
        failure.retry_after = 20.0
    bench.imds.errors.append(failure)
    reply = await bench.token()
    assert (reply.status, reply.json["error"], reply.headers.get("retry-after")) == (status, code, retry)


async def test_token_of_another_identity_is_refused(start: Start, make: type[Make]) -> None:
    """Should IMDS answer for another client id than the one asked for, nobody gets that token."""
    bench = await start()
    entitle(bench, make)
    bench.imds.answer_client_id = "somebody-else"
    reply = await bench.token()
    assert reply.status == 403
    assert b"e30." not in reply.body


async def test_a2_client_id_of_another_identity_gets_nothing(start: Start, make: type[Make]) -> None:
    """An AzureIdentity with an allowed resourceID and somebody else's clientID does not get that other token."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod, make.identity(client_id="client-of-kubelet")))
    reply = await bench.token()
    assert reply.status == 403
    assert "access_token" not in reply.json
    assert [call["client_id"] for call in bench.imds.calls] == [""]


async def test_d26_log_and_metrics_name_what_happened(start: Start, make: type[Make]) -> None:
    """The lines people grep are there, no token is, and routes and resources are bounded labels."""
    bench = await start()
    entitle(bench, make)
    body = (await bench.token()).json
    await bench.token(query="&client_id=client-of-app")
    await bench.token(resource="made-up-" + "x" * 50, query="&client_id=a&client_id=b")
    log = bench.log.getvalue()
    assert "no clientID or resourceID in request. team/web has been matched with azure identity team/app" in log
    assert "matched identityType:0 clientid:clie##### REDACTED #####-app resource:https://vault.azure.net" in log
    assert "req.method=GET reg.path=/metadata/identity/oauth2/token req.remote=127.1.0.1" in log
    assert "status (200) took " in log
    assert body["access_token"] not in log
    rendered = bench.metrics.render().decode()
    assert 'operation_type="/metadata/identity/oauth2/token"' in rendered
    assert "made-up" not in rendered
