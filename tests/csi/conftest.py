"""A provider on a real socket, with stand-ins for nmi and Key Vault on real sockets too."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc.aio
import pytest
from aiohttp import web

from podidentity.config.csi import csi_settings
from podidentity.csi.app import Running, build_app, started
from podidentity.csi.proto import health_pb2, provider_pb2
from podidentity.lab.pki import Authority, Subject

VERSION = "0123456789abcdef0123456789abcdef"
WALKTHROUGH_OBJECTS = f"""\
array:
  - |
    objectName: kvs-test01
    objectAlias: kvs-test01{" " * 12}
    objectType: secret{" " * 20}
    objectVersion: {VERSION}{" " * 7}
"""


def attributes(objects: str = WALKTHROUGH_OBJECTS, **more: str | None) -> str:
    """What the driver sends for the walkthrough's SecretProviderClass, changed by ``more`` (None removes)."""
    values: dict[str, str | None] = {
        "usePodIdentity": "true",
        "userAssignedIdentityID": "ae95a0e4-0000-0000-0000-000000005f1d",
        "keyvaultName": "kv-demo",
        "cloudName": "",
        "objects": objects,
        "tenantId": "11111111-1111-1111-1111-111111111111",
        "csi.storage.k8s.io/pod.name": "nginx-secrets-store-inline",
        "csi.storage.k8s.io/pod.namespace": "default",
        "csi.storage.k8s.io/pod.uid": "uid-1",
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "csi.storage.k8s.io/ephemeral": "true",
        "secretProviderClass": "kv-demo",
        **more,
    }
    return json.dumps({name: value for name, value in values.items() if value is not None})


@dataclass
class Peer:
    """A stand-in: ``handler`` answers, ``asked`` holds the requests."""

    handler: Callable[[web.BaseRequest], web.StreamResponse]
    slow: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    url: str = ""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        """Listen on 127.0.0.1."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.asked.append((request.raw_path, headers))
            self.bodies.append((await request.read()).decode())
            return self.handler(request) if self.slow is None else await self.slow(request)

        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.context).start()
        self.url = "{}://{}:{}".format("https" if self.context else "http", *runner.addresses[0][:2])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self._stack.aclose()


@dataclass
class Bench:
    """The provider and what is around it."""

    nmi: Peer
    vault: Peer
    imds: Peer
    entra: Peer
    running: Running
    socket: Path
    channel: grpc.aio.Channel

    async def mount(
        self, text: str | None = None, *, secrets: str = "{}", permission: str = "420"
    ) -> provider_pb2.MountResponse:
        """Call Mount as the driver does."""
        call = self.channel.unary_unary(
            "/v1alpha1.CSIDriverProvider/Mount",
            request_serializer=provider_pb2.MountRequest.SerializeToString,
            response_deserializer=provider_pb2.MountResponse.FromString,
        )
        request = provider_pb2.MountRequest(
            attributes=attributes() if text is None else text,
            secrets=secrets,
            target_path="/var/lib/kubelet/pods/uid-1/volumes/x/mount",
            permission=permission,
        )
        response: provider_pb2.MountResponse = await call(request, timeout=10)
        return response

    async def refusal(self, text: str | None = None, *, secrets: str = "{}", permission: str = "420") -> str:
        """Call Mount and return the refusal's text."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.mount(text, secrets=secrets, permission=permission)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        return caught.value.details() or ""

    async def health(self) -> int:
        """Ask the standard health service."""
        call = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await call(health_pb2.HealthCheckRequest(), timeout=10)
        return int(answer.status)


def token_answer(_: web.BaseRequest) -> web.StreamResponse:
    """What nmi answers."""
    return web.json_response({"token": {"access_token": "pod-token", "expires_on": "1709895997"}, "clientid": "c1"})


def aad_answer(_: web.BaseRequest) -> web.StreamResponse:
    """What IMDS and Entra ID answer."""
    return web.json_response({"access_token": "vault-token", "expires_on": "1709895997", "expires_in": "3600"})


def secret_answer(request: web.BaseRequest) -> web.StreamResponse:
    """A secret whose value tells its name; the walkthrough's has the walkthrough's value."""
    _, _, name, version = request.path.split("/")[:4]
    value = "e+9qBwdjC<q6<P_n" if name == "kvs-test01" else f"value of {name}"
    found = version or "latest0version"
    return web.json_response({"value": value, "id": f"https://kv-demo.vault.azure.net/secrets/{name}/{found}"})


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A provider that serves on a Unix socket."""
    socket = tmp_path / "azure.sock"
    Authority(tmp_path).issue("entra", Subject("entra", serves=("127.0.0.1",)))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "entra.crt", tmp_path / "entra.key")
    async with (
        Peer(token_answer) as nmi,
        Peer(secret_answer) as vault,
        Peer(aad_answer) as imds,
        Peer(aad_answer, context=context) as entra,
    ):
        settings = csi_settings([f"--endpoint=unix://{socket}"], {"PODIDENTITY_NMI_URL": nmi.url})
        app = build_app(
            replace(settings, healthz_port=0, prometheus_port=0),
            environ={"SSL_CERT_FILE": str(tmp_path / "ca.crt")},
            vault_url=lambda _cloud, _name: vault.url,
            imds_url=imds.url,
        )
        async with started(app) as running, grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            yield Bench(nmi, vault, imds, entra, running, socket, channel)
