"""Tokens over real sockets: who gets which, and who waits."""

from __future__ import annotations

import asyncio

from tests.nmi.conftest import Make, Start, until

from podidentity.api.constants import STATE_CREATED


async def test_pod_gets_the_token_of_its_identity(start: Start, make: type[Make]) -> None:
    """A pod with an assigned identity gets that identity's token in IMDS's shape."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    reply = await bench.token()
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    body = reply.json
    assert body["client_id"] == "client-of-app"
    assert body["resource"] == "https://vault.azure.net"
    assert body["token_type"] == "Bearer"
    assert int(body["expires_on"]) > 0
    assert 86000 < int(body["expires_in"]) <= 86400
    assert all(isinstance(value, str) for value in body.values())


async def test_second_request_is_answered_from_cache(start: Start, make: type[Make]) -> None:
    """IMDS is asked once however many pods' requests follow, on one connection too."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    replies = [await bench.token() for _ in range(5)]
    assert {reply.status for reply in replies} == {200}
    assert len(bench.imds.calls) == 1


async def test_d34_authorisation_is_evaluated_on_every_request(start: Start, make: type[Make]) -> None:
    """A cached token is not handed out once the assigned identity is being deleted."""
    bench = await start("--retry-attempts-for-created=0")
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.token()).status == 200
    bench.put_assigned(make.assigned(pod, deletion="2026-01-01T00:00:00Z", version="2"))
    reply = await bench.token()
    assert reply.status == 404
    assert "getting assigned identities for pod team/web in CREATED state failed" in reply.json["error_description"]


async def test_d2_early_request_is_held_until_its_assignment(start: Start, make: type[Make]) -> None:
    """A request that comes before its assignment is answered the moment the assignment is there."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    waiting = asyncio.ensure_future(bench.token())
    await until(lambda: bench.app.cluster.waiters.held == 1)
    bench.put_assigned(make.assigned(pod, state=STATE_CREATED))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    bench.put_assigned(make.assigned(pod, version="2"))
    assert (await waiting).status == 200
    assert bench.app.cluster.waiters.held == 0


async def test_bypass_cache_of_a_request_reaches_imds(start: Start, make: type[Make]) -> None:
    """A pod whose token was rejected gets another one by bypass_cache=true; any other value means nothing."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    first = await bench.token()
    assert (await bench.token(query="&bypass_cache=false")).json == first.json
    bench.app.tokens.cached.evict(lambda _: True)
    second = await bench.token(query="&bypass_cache=TRUE")
    assert second.json["access_token"] != first.json["access_token"]
    assert [call.get("bypass_cache") for call in bench.imds.calls] == [None, "true"]


async def test_two_hundred_who_wait_are_served_at_once(start: Start, make: type[Make]) -> None:
    """When the assignments of two hundred waiting pods come, each has its token at once."""
    bench = await start()
    loop = asyncio.get_running_loop()
    pods = [make.pod(f"web-{number}", ip=f"127.3.0.{1 + number}") for number in range(200)]
    bench.put_pod(*pods)
    waiting = [asyncio.ensure_future(bench.token(pod.status.pod_ip)) for pod in pods]
    await until(lambda: bench.app.cluster.waiters.held == 200, 20)
    begun = loop.time()
    bench.put_assigned(*(make.assigned(pod) for pod in pods))
    replies = await asyncio.gather(*waiting)
    assert {reply.status for reply in replies} == {200}
    assert loop.time() - begun < 1.0
    assert len(bench.imds.calls) == 1
