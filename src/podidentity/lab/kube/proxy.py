"""pods/log and pods/exec: passed through to the kubelet of the pod's node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from podidentity.lab.kube.config import Kubelets
from podidentity.lab.kube.errors import StatusError, bad_request, not_here
from podidentity.lab.kube.objects import Obj, decode, dig
from podidentity.lab.kube.store import Store
from podidentity.lab.kube.upstream import TIMEOUT, Upstream, copied, trusting

EXEC_PROTOCOL: Final = "v5.channel.k8s.io"
_EXEC_FLAGS: Final = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
_CHUNK: Final = 64 * 1024
_MAX_FRAME: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a container runs: the kubelet's base URL and the container's name."""

    base: str
    container: str


class KubeletProxy(Upstream):
    """Async context manager; ``kubelets`` says how kubelets are trusted and reached."""

    def __init__(self, store: Store, kubelets: Kubelets) -> None:
        super().__init__(partial(_client, kubelets))
        self._store = store
        self._kubelets = kubelets

    def _place(self, pod: Obj, container: str) -> _Place:
        name = pod["metadata"]["name"]
        names = [one["name"] for group in ("containers", "initContainers") for one in pod["spec"].get(group) or ()]
        running = [one["name"] for one in pod["spec"].get("containers") or ()]
        if not container and len(running) > 1:
            raise bad_request(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(running)}]"
            )
        container = container or running[0]
        if container not in names:
            raise bad_request(f"container {container} is not valid for pod {name}")
        node = pod["spec"].get("nodeName")
        if not node:
            raise bad_request(f"pod {name} does not have a host assigned")
        return _Place(self._base(node), container)

    def _base(self, node_name: str) -> str:
        found = self._store.get("nodes", "", node_name)
        if found is None:
            raise StatusError(500, f'Internal error occurred: nodes "{node_name}" not found')
        node = found.obj()
        if self._kubelets.address:
            host, port = self._kubelets.address(node)
        else:
            host, port = _address(node)
        return f"https://{host}:{port}"

    async def log(self, request: web.BaseRequest, pod: Obj, query: Mapping[str, str]) -> web.StreamResponse:
        """Stream a container's log."""
        place = self._place(pod, query.get("container", ""))
        metadata = pod["metadata"]
        path = f"/containerLogs/{metadata['namespace']}/{metadata['name']}/{place.container}"
        options = {key: value for key, value in query.items() if key not in {"container", "pretty"}}
        try:
            async with self.client.get(f"{place.base}{path}?{urlencode(options)}") as answer:
                if answer.status != HTTPStatus.OK:
                    raise await _refusal(answer)
                return await _copy(request, answer)
        except ConnectionError:
            raise  # our client's
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(place, path, error) from error

    async def exec(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        """Pass a v5 websocket through to the kubelet, frame by frame.

        kubectl asks again over SPDY when its websocket was refused, and prints what it is told then: so the kubelet is
        asked for its reason first.
        """
        query = request.query
        place = self._place(pod, query.get("container", ""))
        metadata = pod["metadata"]
        path = f"/exec/{metadata['namespace']}/{metadata['name']}/{place.container}"
        options = [("command", part) for part in query.getall("command", [])]
        options += [(to, "1") for name, to in _EXEC_FLAGS.items() if query.get(name) in {"true", "1"}]
        url = f"{place.base}{path}?{urlencode(options)}"
        offered = [part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if request.headers.get("Upgrade", "").lower() != "websocket":
            await self._refuse(place, path, url)
            raise not_here("exec over SPDY")
        if EXEC_PROTOCOL not in offered:
            raise not_here(f"exec with another protocol than {EXEC_PROTOCOL}", 400)
        try:
            upstream = await self.client.ws_connect(url, protocols=[EXEC_PROTOCOL], max_msg_size=_MAX_FRAME)
        except aiohttp.WSServerHandshakeError as error:
            raise StatusError(500, f"unable to upgrade connection: the kubelet answered {error.status}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(place, path, error) from error
        async with upstream:
            response = web.WebSocketResponse(protocols=[EXEC_PROTOCOL], max_msg_size=_MAX_FRAME)
            await response.prepare(request)
            await _join(response, upstream)
        return response

    async def _refuse(self, place: _Place, path: str, url: str) -> None:
        """Raise what the kubelet has against the command; nothing is run, since it is not asked over a websocket."""
        try:
            async with self.client.get(url) as answer:
                if answer.status != HTTPStatus.UPGRADE_REQUIRED:
                    raise await _refusal(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(place, path, error) from error


async def _refusal(answer: aiohttp.ClientResponse) -> StatusError:
    """What a kubelet answered instead of doing what it was asked."""
    text = (await answer.text()).strip()
    if answer.content_type == "application/json":
        text = str(decode(text.encode()).get("message") or text)
    return StatusError(answer.status, text or f"the kubelet answered {answer.status}")


async def _copy(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass a log on as it comes; a kubelet that dies in between ends it."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await copied(answer, response)
    return response


async def _join(client: web.WebSocketResponse, kubelet: aiohttp.ClientWebSocketResponse) -> None:
    """Copy frames both ways until either side closes; the kubelet's close code reaches the client."""

    async def inward() -> None:
        async for message in client:
            if message.type is aiohttp.WSMsgType.BINARY:
                await kubelet.send_bytes(message.data)
        await kubelet.close()

    async with asyncio.TaskGroup() as group:
        sender = group.create_task(inward())
        async for message in kubelet:
            if message.type is aiohttp.WSMsgType.BINARY:
                await client.send_bytes(message.data)
        await client.close(code=kubelet.close_code or aiohttp.WSCloseCode.OK)
        sender.cancel()


def _client(kubelets: Kubelets) -> aiohttp.ClientSession:
    context = trusting(kubelets.ca)
    if kubelets.cert:
        context.load_cert_chain(kubelets.cert, kubelets.key)
    return aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(ssl=context, limit=0))


def _address(node: Mapping[str, Any]) -> tuple[str, int]:
    addresses = {found.get("type"): found.get("address") for found in dig(node, "status", "addresses") or ()}
    port = dig(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port")
    host = addresses.get("InternalIP")
    if not host or not port:
        message = f"node {node['metadata']['name']} does not say where its kubelet listens"
        raise StatusError(500, f"Internal error occurred: {message}")
    return str(host), int(port)


def _unreachable(place: _Place, path: str, error: Exception) -> StatusError:
    return StatusError(500, f'Internal error occurred: Get "{place.base}{path}": {error}')
