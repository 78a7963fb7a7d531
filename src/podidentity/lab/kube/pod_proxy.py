"""pods/proxy: a GET passed on to the pod's own address, without anything that belongs to the caller."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from podidentity.lab.kube.errors import StatusError, bad_request, not_here
from podidentity.lab.kube.objects import Obj, dig
from podidentity.lab.kube.upstream import TIMEOUT, Upstream, copied, trusting

_ONLY_HERE: Final = frozenset(
    (
        *("authorization", "connection", "host", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
"""Headers that are of one connection or of the API server's caller: they are not passed on, in neither direction."""
_SCHEMES: Final = frozenset(["", "http", "https"])
_BEFORE_THE_REST: Final = 8
"""Parts of ``/api/v1/namespaces/NAMESPACE/pods/NAME/proxy``, the empty one before the first slash too."""


@dataclass(frozen=True, slots=True)
class PodAddress:
    """What a pod is called in a path: ``NAME``, ``NAME:PORT`` or ``SCHEME:NAME:PORT``; empty where not said."""

    name: str
    scheme: str = ""
    port: str = ""

    @classmethod
    def parse(cls, text: str) -> PodAddress:
        """Of the part of a path; StatusError 400 for any other form."""
        match text.split(":"):
            case [name] if name:
                return cls(name)
            case [name, port] if name:
                return cls(name, "", port)
            case [scheme, name, port] if name and scheme in _SCHEMES:
                return cls(name, scheme, port)
            case _:
                raise bad_request(f'invalid pod request "{text}"')


def location(pod: Obj, address: PodAddress) -> URL:
    """Where the pod serves: its first declared port when none is asked for. StatusError 400: it has no address."""
    ip = _unicast(str(dig(pod, "status", "podIP") or ""))
    ports = [port for one in pod["spec"].get("containers") or () for port in one.get("ports") or ()]
    port = address.port or (str(ports[0]["containerPort"]) if ports else "")
    if port and not port.isdecimal():
        raise bad_request(f'invalid pod request "{address.name}:{port}"')
    return URL.build(scheme=address.scheme or "http", host=ip, port=int(port) if port else None)


def _unicast(text: str) -> str:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise bad_request("address not allowed") from None
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        raise bad_request("address not allowed")
    return text


class PodProxy(Upstream):
    """Async context manager. Its connections are not the kubelets': a pod never sees the certificate shown to those.

    What a pod says of itself by TLS is not checked, as on a real server.
    """

    def __init__(self) -> None:
        super().__init__(_client)

    async def get(self, request: web.BaseRequest, pod: Obj, address: PodAddress) -> web.StreamResponse:
        """What the pod answers, as it is; StatusError 503 when it cannot be reached, 501 for another method."""
        if request.method not in {"GET", "HEAD"}:
            raise not_here(f"{request.method} through pods/proxy")
        rest = "/".join(request.rel_url.raw_path.split("/")[_BEFORE_THE_REST:])
        url = URL(f"{location(pod, address)}/{rest}?{request.rel_url.raw_query_string}".rstrip("?"), encoded=True)
        headers = [(name, value) for name, value in request.headers.items() if _passes(name)]
        try:
            answer = await self.client.request(request.method, url, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StatusError(503, f"error trying to reach service: {error}") from error
        async with answer:
            return await _copy(request, answer)


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=TIMEOUT,
        connector=aiohttp.TCPConnector(ssl=trusting(), limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _passes(name: str) -> bool:
    return name.lower() not in _ONLY_HERE and not name.lower().startswith("impersonate-")


async def _copy(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass an answer on as it comes; one that breaks off is broken off here too."""
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if _passes(name):
            response.headers.add(name, value)
    await response.prepare(request)
    if not await copied(answer, response) and request.transport:
        request.transport.close()
    return response
