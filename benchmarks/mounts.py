"""Mounts through csi-provider: what more objects cost, and many mounts while the secrets change."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
from aiohttp import web

from podidentity.csi.proto import provider_pb2
from processes import ProcessError, started, usage
from report import Report, quantile, ratio

HERE = Path(__file__).parent
DELAY = 0.1
"""Seconds the vault takes to answer."""
OBJECTS = 20
BAR = 1.5
"""How much longer than a mount of one object a mount of OBJECTS may take."""
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """``rounds`` mounts of one and of many objects in turns, then ``mounts`` with so many ``together``.

    Every secret gets a new version after each ``rotation`` mounts.
    """

    rounds: int = 30
    mounts: int = 1000
    together: int = 20
    rotation: int = 100


@dataclass(slots=True)
class Peers:
    """nmi and the vault; ``version`` is that of every secret now."""

    version: int = 1
    urls: list[str] = field(default_factory=list)

    async def nmi(self, _request: web.BaseRequest) -> web.StreamResponse:
        """A token at once."""
        return web.json_response({"token": {"access_token": "token", "expires_on": "1709895997"}, "clientid": "c"})

    async def vault(self, request: web.BaseRequest) -> web.StreamResponse:
        """A secret after DELAY."""
        await asyncio.sleep(DELAY)
        name = request.path.split("/")[2]
        identifier = f"https://kv-demo.vault.azure.net/secrets/{name}/{self.version}"
        return web.json_response({"value": f"{name} {self.version}", "id": identifier})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Both on 127.0.0.1 while entered; ``urls``: nmi's and the vault's."""
        runners = [web.ServerRunner(web.Server(handler)) for handler in (self.nmi, self.vault)]
        try:
            for runner in runners:
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.urls.append("http://{}:{}".format(*runner.addresses[0][:2]))
            yield
        finally:
            for runner in runners:
                await runner.cleanup()


@dataclass(slots=True)
class Driver:
    """Calls Mount as the CSI driver does; ``changed`` counts the mounts whose version was not the one before."""

    channel: grpc.aio.Channel
    version: str = ""
    changed: int = 0

    async def mount(self, count: int) -> float:
        """Mount so many secrets; the seconds it took. Raises ProcessError when files are missing."""
        call = self.channel.unary_unary(
            "/v1alpha1.CSIDriverProvider/Mount",
            request_serializer=provider_pb2.MountRequest.SerializeToString,
            response_deserializer=provider_pb2.MountResponse.FromString,
        )
        request = provider_pb2.MountRequest(attributes=attributes(count), secrets="{}", permission="420")
        begun = time.monotonic()
        response: provider_pb2.MountResponse = await call(request, timeout=PATIENCE)
        seconds = time.monotonic() - begun
        if len(response.files) != count:
            raise ProcessError(f"a mount of {count} objects gave {len(response.files)} files")
        self.changed += response.object_version[0].version != self.version
        self.version = response.object_version[0].version
        return seconds


def attributes(count: int) -> str:
    """What the driver sends for a class of so many secrets."""
    entry = "  - |\n    objectName: secret-{}\n    objectType: secret\n"
    values = {
        "usePodIdentity": "true",
        "keyvaultName": "kv-demo",
        "objects": "array:\n" + "".join(entry.format(number) for number in range(count)),
        "tenantId": "11111111-1111-1111-1111-111111111111",
        "csi.storage.k8s.io/pod.name": "pod",
        "csi.storage.k8s.io/pod.namespace": "default",
    }
    return json.dumps(values)


async def measure(quick: bool) -> Report:
    """Measure."""
    plan = Plan(rounds=2, mounts=20, together=5, rotation=10) if quick else Plan()
    peers = Peers()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with peers.listening():
            ready, socket = folder / "ready", folder / "azure.sock"
            words = [sys.executable, str(HERE / "mount_provider.py"), str(socket), *peers.urls, str(ready)]
            async with (
                started(words, folder / "log", ready=ready) as pid,
                grpc.aio.insecure_channel(f"unix:{socket}") as channel,
            ):
                rows = await _rows(plan, peers, Driver(channel), pid)
    return Report(
        title="mounts: objects of a vault that answers in 100 ms, through csi-provider",
        compares=f"a mount of {OBJECTS} objects with one of 1, in turns; then {plan.mounts:,} mounts of one object, "
        f"{plan.together} at a time, whose secret changes after every {plan.rotation}",
        columns=("mounts", "p50 ms", "p99 ms", "p50 to one object", "new versions", "RSS MiB"),
        rows=rows,
        bound=f"the vault: its answers take {DELAY * 1000:.0f} ms. The rest is reading the class, and a connection for "
        f"each request that is under way. The bar of the ratio is {BAR}x",
    )


async def _rows(plan: Plan, peers: Peers, driver: Driver, pid: int) -> list[tuple[str, ...]]:
    await driver.mount(OBJECTS)
    one, many = [], []
    for _ in range(plan.rounds):
        one.append(await driver.mount(1))
        many.append(await driver.mount(OBJECTS))
    base = quantile(one, 0.5)
    rows = [
        _row(f"{plan.rounds} of 1 object", one, base, "-", pid),
        _row(f"{plan.rounds} of {OBJECTS} objects", many, base, "-", pid),
    ]
    driver.changed = 0
    taken: list[float] = []
    while len(taken) < plan.mounts:
        if len(taken) % plan.rotation == 0:
            peers.version += 1
        taken += await asyncio.gather(*(driver.mount(1) for _ in range(plan.together)))
    if driver.changed != plan.mounts // plan.rotation:
        raise ProcessError(f"the mounts saw {driver.changed} new versions")
    return [*rows, _row(f"{plan.mounts:,}, {plan.together} at a time", taken, base, f"{driver.changed}", pid)]


def _row(name: str, taken: list[float], base: float, changed: str, pid: int) -> tuple[str, ...]:
    p50, p99 = quantile(taken, 0.5), quantile(taken, 0.99)
    return (name, f"{p50 * 1000:.0f}", f"{p99 * 1000:.0f}", ratio(p50, base), changed, f"{usage(pid).rss:.0f}")
