"""pods/log and pods/exec reach the kubelet of the pod's node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.lab.kube.wire import PODS, Client, pod

from podidentity.lab.kube import ApiConfig, Kubelets
from podidentity.lab.kube.config import throwaway_context

PROTOCOL = "v5.channel.k8s.io"


class Kubelet:
    """A kubelet that logs a line and echoes stdin."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Stream two pieces, the second only later."""
        self.asked.append(request.path_qs)
        if request.match_info["container"] == "waiting":
            return web.Response(
                status=400, text='container "waiting" in pod "p" is waiting to start: ContainerCreating'
            )
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first\n")
        if request.match_info["container"] == "dying":
            assert request.transport is not None
            request.transport.close()
            return response
        await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            await response.write(b"second\n")
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Echo stdin to stdout, then end with a status and a close frame."""
        self.asked.append(request.path_qs)
        if request.match_info["container"] == "waiting":
            return web.json_response({"kind": "Status", "message": 'container "waiting" is not running'}, status=404)
        if "Upgrade" not in request.headers:
            return web.Response(status=426)
        socket = web.WebSocketResponse(protocols=[PROTOCOL])
        await socket.prepare(request)
        async for message in socket:
            if message.data == b"\xff\x00":
                break
            await socket.send_bytes(b"\x01" + message.data[1:])
        await socket.send_bytes(b'\x03{"metadata":{},"status":"Success"}')
        await socket.close()
        return socket


@pytest.fixture
async def kubelet() -> AsyncIterator[Kubelet]:
    """The kubelet, listening."""
    found = Kubelet()
    app = web.Application()
    app.router.add_get("/containerLogs/{ns}/{pod}/{container}", found.log)
    app.router.add_get("/exec/{ns}/{pod}/{container}", found.exec)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=throwaway_context())
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
def api_config(kubelet: Kubelet) -> ApiConfig:
    """A server that finds every kubelet on loopback, whatever its node says."""

    def address(_node: Mapping[str, Any]) -> tuple[str, int]:
        return "127.0.0.1", kubelet.port

    return ApiConfig(kubelets=Kubelets(address=address))


async def prepared(api: Client, *containers: str) -> None:
    """A node, and a pod on it."""
    await api.post("/api/v1/nodes", {"metadata": {"name": "n1"}})
    names = containers or ("main",)
    await api.post(PODS, pod("p", nodeName="n1", containers=[{"name": name, "image": "x"} for name in names]))


async def test_logs_are_streamed(api: Client, kubelet: Kubelet) -> None:
    """Text arrives as the kubelet sends it, and the query reaches it."""
    await prepared(api)
    answer = await api.get(f"{PODS}/p/log", params={"follow": "true", "tailLines": "5", "container": "main"})
    assert (answer.status, answer.body) == (200, "first\nsecond\n")
    assert kubelet.asked == ["/containerLogs/default/p/main?follow=true&tailLines=5"]


async def test_log_errors_are_statuses(api: Client) -> None:
    """What the kubelet refuses, a pod without node, an unknown container: each is a Status."""
    await prepared(api, "main", "waiting")
    waiting = await api.get(f"{PODS}/p/log", params={"container": "waiting"})
    assert (waiting.status, waiting.body["reason"]) == (400, "BadRequest")
    assert "is waiting to start" in waiting.message
    unnamed = await api.get(f"{PODS}/p/log")
    assert unnamed.message == "a container name must be specified for pod p, choose one of: [main waiting]"
    unknown = await api.get(f"{PODS}/p/log", params={"container": "nope"})
    assert unknown.message == "container nope is not valid for pod p"
    await api.post(PODS, pod("homeless"))
    homeless = await api.get(f"{PODS}/homeless/log")
    assert (homeless.status, homeless.message) == (400, "pod homeless does not have a host assigned")


async def test_dead_kubelet_is_a_server_error(api: Client, kubelet: Kubelet) -> None:
    """No connection to the kubelet is 500 with the address that was tried."""
    await prepared(api)
    kubelet.port = 1
    answer = await api.get(f"{PODS}/p/log")
    assert answer.status == 500
    assert "https://127.0.0.1:1/containerLogs/default/p/main" in answer.message


async def test_kubelet_that_dies_ends_the_log(api: Client) -> None:
    """What came so far is kept, and the connection to the client stays in order."""
    await prepared(api, "dying")
    assert (await api.get(f"{PODS}/p/log")).body == "first\n"
    assert (await api.get(f"{PODS}/p")).status == 200


async def test_client_that_stops_following_is_no_error(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Ctrl-C in `kubectl logs -f` or `get -w` leaves nothing in the server's log."""
    await prepared(api)
    headers = {"Authorization": f"Bearer {api.token}"}
    for path in (f"{PODS}/p/log?follow=true", f"{PODS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"):
        answer = await api.session.get(path, headers=headers)
        await answer.content.readany()
        answer.close()
    await asyncio.sleep(1.2)
    assert caplog.records == []


async def test_exec_passes_frames_through(api: Client, kubelet: Kubelet) -> None:
    """Frames go both ways unchanged, the status comes before the close frame, repeated commands stay in order."""
    await prepared(api)
    query = "command=sh&command=-c&command=a+b&container=main&stdin=true&stdout=true&stderr=true"
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.session.ws_connect(f"{PODS}/p/exec?{query}", protocols=[PROTOCOL], headers=headers) as socket:
        assert socket.protocol == PROTOCOL
        await socket.send_bytes(b"\x00hello")
        assert (await socket.receive()).data == b"\x01hello"
        await socket.send_bytes(b"\xff\x00")
        assert (await socket.receive()).data == b'\x03{"metadata":{},"status":"Success"}'
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    expected = "/exec/default/p/main?command=sh&command=-c&command=a+b&input=1&output=1&error=1"
    assert kubelet.asked == [expected]


async def test_exec_without_the_websocket_is_refused(api: Client, kubelet: Kubelet) -> None:
    """SPDY and older protocols get a Status that kubectl prints; the kubelet's own reason comes first."""
    await prepared(api, "main", "waiting")
    upgrade, path = {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}, f"{PODS}/p/exec?command=ls&container="
    spdy = await api.post(f"{path}main", {}, headers=upgrade)
    assert "--api-server=real" in spdy.message
    waiting = await api.post(f"{path}waiting", {}, headers=upgrade)
    assert (waiting.status, waiting.message) == (404, 'container "waiting" is not running')
    kubelet.port = 1
    assert (await api.post(f"{path}main", {}, headers=upgrade)).status == 500
    headers = {"Authorization": f"Bearer {api.token}"}
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await api.session.ws_connect(f"{PODS}/p/exec?command=ls", protocols=["v4.channel.k8s.io"], headers=headers)


async def test_client_that_hangs_up_ends_the_kubelets_side(api: Client, kubelet: Kubelet) -> None:
    """A vanished client of exec does not leave the kubelet's connection open."""
    await prepared(api)
    headers = {"Authorization": f"Bearer {api.token}"}
    socket = await api.session.ws_connect(
        f"{PODS}/p/exec?command=cat&stdin=true", protocols=[PROTOCOL], headers=headers
    )
    await socket.send_bytes(b"\x00x")
    await socket.receive()
    await socket.close()
    assert len(kubelet.asked) == 1
