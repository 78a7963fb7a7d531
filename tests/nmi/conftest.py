"""A whole nmi on real sockets, with a cluster in memory and an IMDS that counts."""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pytest
from tests.nmi.fakes import FakeApi, FakeEntra, FakeImds
from tests.nmi.stand_in import StandIn

from podidentity.aio.clock import Clock
from podidentity.api.constants import POD_LABEL, STATE_ASSIGNED
from podidentity.api.core import Pod, PodIP, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureAssignedIdentitySpec,
    AzureAssignedIdentityStatus,
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
    AzurePodIdentityException,
    AzurePodIdentityExceptionSpec,
    SecretReference,
)
from podidentity.api.meta import KubeObject, ObjectMeta, OwnerReference
from podidentity.azure.imds import ImdsClient
from podidentity.config.nmi import NmiSettings, nmi_settings
from podidentity.kube.store import Change, Store, WatchEvent
from podidentity.nmi.assembly import App, Deps, build_app
from podidentity.nmi.auditor import OF_NODE, OF_POD
from podidentity.nmi.connection import Limits
from podidentity.nmi.tokens.authority import Authorities
from podidentity.telemetry.audit import Audit, Sink
from podidentity.telemetry.logging import configure_logging, get_logger
from podidentity.telemetry.metrics import Metrics

T = TypeVar("T", bound=KubeObject)
NODE = "node-0"
VAULT = "https://vault.azure.net"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"


class Make:
    """Objects for tests, with the fields a test does not care for filled in."""

    @staticmethod
    def pod(
        name: str = "web",
        namespace: str = "team",
        *,
        ip: str = "127.1.0.1",
        uid: str = "",
        phase: str = "Running",
        label: str | None = "web",
        labels: Mapping[str, str] | None = None,
        node: str = NODE,
        host_network: bool = False,
        deletion: str | None = None,
        more_ips: Sequence[str] = (),
        owner: str = "",
        version: str = "1",
        service_account: str = "",
    ) -> Pod:
        """Return a pod; ``owner`` names its ReplicaSet, ``label`` None leaves aadpodidbinding out."""
        owners = (OwnerReference(kind="ReplicaSet", name=owner, controller=True),) if owner else ()
        return Pod(
            metadata=ObjectMeta(
                name=name,
                namespace=namespace,
                uid=uid or f"uid-{name}",
                resource_version=version,
                labels={**({POD_LABEL: label} if label else {}), **(labels or {})},
                deletion_timestamp=deletion,
                owner_references=owners,
            ),
            spec=PodSpec(node_name=node, host_network=host_network, service_account_name=service_account),
            status=PodStatus(phase=phase, pod_ip=ip, pod_ips=tuple(PodIP(ip=more) for more in more_ips)),
        )

    @staticmethod
    def identity(
        name: str = "app",
        namespace: str = "team",
        *,
        client_id: str | None = None,
        type_: int = 0,
        annotations: Mapping[str, str] | None = None,
        secret: str = "",
        secret_namespace: str = "",
        endpoint: str = "",
        tenant: str = TENANT,
        more_tenants: tuple[str, ...] = (),
    ) -> AzureIdentity:
        """Return an AzureIdentity whose ids follow from its name."""
        return AzureIdentity(
            metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations or {}),
            spec=AzureIdentitySpec(
                type=type_,
                client_id=f"client-of-{name}" if client_id is None else client_id,
                resource_id=f"/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/"
                f"userAssignedIdentities/{name}",
                client_password=SecretReference(name=secret, namespace=secret_namespace or namespace),
                tenant_id=tenant,
                auxiliary_tenant_ids=more_tenants,
                ad_endpoint=endpoint,
            ),
        )

    @classmethod
    def assigned(
        cls,
        pod: Pod,
        identity: AzureIdentity | None = None,
        *,
        state: str = STATE_ASSIGNED,
        binding: str = "",
        annotations: Mapping[str, str] | None = None,
        deletion: str | None = None,
        node: str = NODE,
        version: str = "1",
    ) -> AzureAssignedIdentity:
        """Return the record that gives ``pod`` this identity."""
        identity = identity or cls.identity()
        binding = binding or f"{identity.name}-binding"
        return AzureAssignedIdentity(
            metadata=ObjectMeta(
                name=f"{pod.name}-{pod.namespace}-{identity.name}",
                namespace="default",
                uid=f"uid-{pod.name}-{identity.name}",
                resource_version=version,
                annotations=annotations or {},
                deletion_timestamp=deletion,
            ),
            spec=AzureAssignedIdentitySpec(
                azure_identity_ref=identity,
                azure_binding_ref=AzureIdentityBinding(
                    metadata=ObjectMeta(name=binding, namespace=identity.namespace),
                    spec=AzureIdentityBindingSpec(azure_identity=identity.name, selector="web"),
                ),
                pod=pod.name,
                pod_namespace=pod.namespace,
                node_name=node,
            ),
            status=AzureAssignedIdentityStatus(status=state),
        )

    @staticmethod
    def exception(labels: Mapping[str, str], namespace: str = "team") -> AzurePodIdentityException:
        """Return an exception for pods with any of ``labels``."""
        return AzurePodIdentityException(
            metadata=ObjectMeta(name="exception", namespace=namespace),
            spec=AzurePodIdentityExceptionSpec(pod_labels=labels),
        )


@dataclass
class Reply:
    """An HTTP response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, str]:
        """Return the body, which must be a JSON object."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


async def read_reply(reader: asyncio.StreamReader, *, head: bool = False) -> Reply:
    """Read one response."""
    start = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = start.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b"" if head else await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(first.split()[1]), headers, body)


class Bench:
    """nmi, listening on 127.0.0.1; clients choose their source address in 127.0.0.0/8."""

    def __init__(
        self, settings: NmiSettings, limits: Limits, clock: Clock, imds: ImdsClient | None, sink: Sink | None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.imds = FakeImds(clock=clock)
        self.entra = FakeEntra()
        self.api = FakeApi()
        self.metrics = Metrics()
        self.log = io.StringIO()
        configure_logging(log_format="text", verbosity=0, stream=self.log)
        sources = {"imds_tokens": imds or self.imds, "imds_documents": imds or self.imds, "entra": self.entra}
        authorities = Authorities("https://login.microsoftonline.com")
        api = {"pods": self.api, "secrets": self.api}
        self.audit = Audit(sink, clock=clock, of_owner=OF_POD, of_all=OF_NODE) if sink else None
        deps = Deps(
            **api,
            **sources,
            log=get_logger(),
            meter=self.metrics,
            clock=clock,
            rng=random.Random(1),
            authorities=authorities,
            audit=self.audit,
        )  # type: ignore[arg-type]
        self.app: App = build_app(settings, deps, addresses=["10.9.9.9"], limits=limits)
        self.app.synced.set()
        self.port = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def stop(self) -> None:
        """End the server and wait for its end."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    async def close_audit(self) -> None:
        """Have everything that was audited written."""
        assert self.audit is not None
        await self.audit.close()

    def put_pod(self, *pods: Pod) -> None:
        """Let the watch tell of pods."""
        for change in filter(None, (self._apply(self.app.cluster.pods, pod) for pod in pods)):
            self.app.finder.on_change(change)
            self.app.cluster.on_pod(change)

    def put_exception(self, item: AzurePodIdentityException) -> None:
        """Let the watch tell of an exception."""
        change = self._apply(self.app.cluster.exceptions, item)
        assert change is not None
        self.app.cluster.on_exception(change)

    def drop_pod(self, pod: Pod) -> None:
        """Let the watch tell that a pod is gone."""
        change = self.app.cluster.pods.apply(WatchEvent("DELETED", pod, "9", pod.key))
        assert change is not None
        self.app.cluster.on_pod(change)

    def put_assigned(self, *items: AzureAssignedIdentity) -> None:
        """Let the watch tell of assigned identities."""
        for item in items:
            change = self._apply(self.app.cluster.assigned, item)
            if change is not None:
                self.app.cluster.on_assigned(change)

    def drop_assigned(self, item: AzureAssignedIdentity) -> None:
        """Let the watch tell that an assigned identity is gone."""
        change = self.app.cluster.assigned.apply(WatchEvent("DELETED", item, "9", item.key))
        assert change is not None
        self.app.cluster.on_assigned(change)

    @staticmethod
    def _apply(store: Store[T], item: T) -> Change[T] | None:
        return store.apply(WatchEvent("MODIFIED", item, "9", item.key))

    async def connect(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection from ``source``."""
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))

    async def send(self, raw: bytes, source: str = "127.0.0.1") -> Reply:
        """Send raw bytes on a connection of their own and read one response."""
        reader, writer = await self.connect(source)
        try:
            writer.write(raw)
            async with asyncio.timeout(10):
                return await read_reply(reader, head=raw.startswith(b"HEAD"))
        finally:
            writer.close()
            await writer.wait_closed()

    async def get(self, target: str, source: str = "127.0.0.1", **headers: str) -> Reply:
        """GET ``target`` with the usual headers and these."""
        fields = {"Host": "169.254.169.254", "Metadata": "true", **{k.replace("_", "-"): v for k, v in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return await self.send(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"), source)

    async def token(self, source: str = "127.1.0.1", query: str = "", resource: str = VAULT) -> Reply:
        """Ask for a token as an SDK does."""
        target = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}{query}"
        return await self.get(target, source)


Start = Callable[..., Awaitable[Bench]]
"""Starts a bench with these flags; ``limits``, ``clock``, ``sink`` (of audit lines), ``unix`` by keyword."""


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


@pytest.fixture
def make() -> type[Make]:
    """Return the maker of objects."""
    return Make


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    """Run a metadata service that counts, on a socket."""
    async with StandIn().running() as standing:
        yield standing


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Give a function that starts benches, all ended after the test."""
    benches: list[Bench] = []

    async def begin(
        *flags: str,
        limits: Limits | None = None,
        clock: Clock | None = None,
        imds: ImdsClient | None = None,
        sink: Sink | None = None,
        unix: socket.socket | None = None,
    ) -> Bench:
        settings = nmi_settings([f"--node={NODE}", *flags], {})
        bench = Bench(settings, limits or Limits(), clock or Clock(), imds, sink)
        sock = socket.create_server(("127.0.0.1", 0))
        bench.port = sock.getsockname()[1]
        listening = asyncio.Event()
        bench.tasks.append(
            asyncio.create_task(bench.app.server.serve([sock, *([unix] if unix else [])], ready=listening.set))
        )
        bench.tasks.append(asyncio.create_task(bench.app.tokens.run()))
        if bench.audit is not None:
            bench.tasks.append(asyncio.create_task(bench.audit.run()))
        await listening.wait()
        benches.append(bench)
        return bench

    yield begin
    for bench in benches:
        await bench.stop()
        await bench.app.tokens.flights.close()
