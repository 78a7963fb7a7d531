"""One node agent under everything a node brings: many pods, new connections, a million requests, nothing at all."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster import PODS, new_lab, restart_nmi, run_json, start_pod
from memory import KINDS, ready_times
from podidentity.kube.errors import KubeError
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import IDENTITY, Walkthrough
from processes import Usage, cpu, descendants, since_boot, usage
from report import Report, ratio
from tokens import IMDS, STATIC_PORT, TOKEN_PATH

HERE = Path(__file__).parent
CUSTOM = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
PEER = """
import sys, time, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Metadata": "true"})
told = False
while True:
    begun = time.monotonic()
    try:
        urllib.request.urlopen(request, timeout=30).read()
        if not told:
            told = True
            print("has a token", flush=True)
    except OSError:
        pass
    time.sleep(max(0.0, 1 - (time.monotonic() - begun)))
"""
"""What each of the node's pods does."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``identities`` are shared by ``pods``; ``requests`` is how many the long run sends."""

    pods: int = 110
    identities: int = 20
    requests: int = 1_000_000
    seconds: float = 3.0
    idle: float = 20.0


@dataclass(slots=True)
class Table:
    """The rows so far: what was measured, the figure, the bar of the node agent's issue."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, figure: str, bar: str) -> None:
        """One row."""
        self.rows.append((what, figure, bar))


async def measure(quick: bool) -> Report:
    """Measure."""
    plan = Plan(pods=3, identities=2, requests=2_000, seconds=0.5, idle=1.0) if quick else Plan()
    table = Table()
    async with new_lab() as walkthrough:
        lab = walkthrough.lab
        await walkthrough.roles()
        await walkthrough.infrastructure()
        await walkthrough.identity_and_binding()
        await start_pod(lab, "load", "import signal; signal.pause()", label=f"{IDENTITY}-binding")
        size = int((await _load(lab, _plan(IMDS, 80, 1, 0.2)))["bytes"])
        agent = _agent()
        await _start(lab, table)
        await _idle(agent, plan, table)
        await _long(lab, agent, plan, table)
        await _node(walkthrough, agent, plan, table)
        await _principals(lab, agent, plan, table)
        await restart_nmi(lab, "--pod-connections=0", "--pod-connection-rate=0")
        await _new_connections(lab, plan, size, table)
    return Report(
        title="agent: one nmi on a node",
        compares="nmi as the shipped manifests run it (log, audit and metrics on, no CPU limit) with the bars of its "
        "issue; new connections also with the constant answers of `tokens`, by the same load generator in turns; of "
        f"the {plan.pods} pods each asks once a second",
        columns=("what", "measured", "bar"),
        rows=table.rows,
        bound="memory: the imported libraries, then one entry a cached token and pod. New connections: the kernel's "
        "handshake, address translation and source check, then accept",
    )


async def _start(lab: RunningLab, table: Table) -> None:
    """From the first process of the container to the line of the log that says it works."""
    kind = next(kind for kind in KINDS if kind.name == "nmi")
    begun = time.time() - since_boot() + _agent().start
    ready = [stamp async for stamp in ready_times(lab, kind)]
    table.add("start to ready, beside the rest of the lab that starts", f"{max(ready) - begun:.2f} s", "1.5 s")


async def _idle(agent: Usage, plan: Plan, table: Table) -> None:
    before = cpu(agent.pid)
    await asyncio.sleep(plan.idle)
    table.add("CPU when nothing is asked", f"{(cpu(agent.pid) - before) / plan.idle:.2%}", "0.5 %")


async def _new_connections(lab: RunningLab, plan: Plan, size: int, table: Table) -> None:
    address = lab.spec.nodes[0].address
    server = (HERE / "static_server.py").read_text()
    await start_pod(lab, "static", server, address, str(STATIC_PORT), str(size), host_network=True)
    ours = await _load(lab, _plan(IMDS, 80, 16, plan.seconds, fresh=True))
    static = await _load(lab, _plan(address, STATIC_PORT, 16, plan.seconds, fresh=True))
    rate, ceiling = (one["requests"] / one["seconds"] for one in (ours, static))
    text = f"{rate:,.0f}/s, p99 {ours['p99']:.1f} ms; static {ceiling:,.0f}/s, {ratio(rate, ceiling)}"
    table.add("a new connection for each request, 16 at a time, one pod's limits off", text, "5,000/s")


async def _long(lab: RunningLab, agent: Usage, plan: Plan, table: Table) -> None:
    """Many requests for one identity: IMDS calls and memory."""
    before, calls = usage(agent.pid).rss, await _imds_calls(lab)
    sent = 0.0
    while sent < plan.requests:
        found = await _load(lab, _plan(IMDS, 80, 16, plan.seconds))
        sent += found["requests"] + found["warm"]
    asked = await _imds_calls(lab) - calls
    table.add(f"IMDS calls in {sent:,.0f} requests for one identity", f"{asked}", "1 in 1,000")
    grown = usage(agent.pid).rss - before
    table.add(f"memory before and after {sent:,.0f} requests", f"{before:.0f} MiB, {grown:+.1f} MiB", "flat")


async def _node(walkthrough: Walkthrough, agent: Usage, plan: Plan, table: Table) -> None:
    """A full node whose pods each ask once a second, while one of them asks as much as it can."""
    lab = walkthrough.lab
    for number in range(plan.identities):
        await declared_identity(lab, f"shared-{number}")
    url = f"http://{IMDS}{TOKEN_PATH}"
    pods = [_pod(f"peer-{n}", f"shared-{n % plan.identities}", PEER, url) for n in range(plan.pods)]
    for pod in pods:
        await lab.cluster.client.raw("POST", PODS, body=pod)
    await lab.cluster.until("all pods have a token", lambda: _serving(lab, plan.pods), within=180)
    alone = await _load(lab, _plan(IMDS, 80, 1, plan.seconds))
    many = await _load(lab, _plan(IMDS, 80, 16, plan.seconds))
    title = f"{plan.pods} pods, {plan.identities} identities"
    for connections, found in ((1, alone), (16, many)):
        rate = found["requests"] / found["seconds"]
        figure = f"{rate:,.0f}/s, p99 {found['p99']:.2f} ms"
        table.add(f"{title}: one more pod at {connections} connections", figure, "p99 10 ms")
    table.add(f"{title}: memory", f"{usage(agent.pid).rss:.0f} MiB", "64 MB")


async def _principals(lab: RunningLab, agent: Usage, plan: Plan, table: Table) -> None:
    """An identity of type 1: a Secret is read and Entra ID asked."""
    client, principal, password = (str(uuid.uuid4()) for _ in range(3))
    seed = {"servicePrincipals": [{"clientId": client, "objectId": principal, "secret": password}]}
    await lab.azure.call("POST", "/seed", seed)
    secret = {"metadata": {"name": "sp"}, "stringData": {"clientSecret": password}}
    await lab.cluster.client.raw("POST", "/api/v1/namespaces/default/secrets", body=secret)
    reference = {"name": "sp", "namespace": "default"}
    await _declare(
        lab, "sp", {"type": 1, "tenantID": lab.spec.tenant_id, "clientID": client, "clientPassword": reference}
    )
    await start_pod(lab, "principal", "import signal; signal.pause()", label="sp-binding")
    found = await _load(lab, _plan(IMDS, 80, 1, plan.seconds), "principal")
    rate = found["requests"] / found["seconds"]
    table.add("a service principal's tokens, 1 connection", f"{rate:,.0f}/s", "5,000/s")
    table.add("memory with a service principal in use", f"{usage(agent.pid).rss:.0f} MiB", "110 MB")


async def declared_identity(lab: RunningLab, name: str) -> None:
    """A managed identity in Azure, its AzureIdentity and a binding whose selector is ``NAME-binding``."""
    made = await lab.azure.create_identity(name, lab.spec.resource_group)
    await _declare(lab, name, {"type": 0, "resourceID": made.id, "clientID": made.properties.client_id})


async def _declare(lab: RunningLab, name: str, spec: Mapping[str, object]) -> None:
    """An AzureIdentity and its binding."""
    kinds = {"AzureIdentity": spec, "AzureIdentityBinding": {"azureIdentity": name, "selector": f"{name}-binding"}}
    for kind, wanted in kinds.items():
        plural = "azureidentities" if kind == "AzureIdentity" else "azureidentitybindings"
        body = {"apiVersion": "aadpodidentity.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": wanted}
        await lab.cluster.client.raw("POST", f"{CUSTOM}/{plural}", body=body)


def _pod(name: str, identity: str, program: str, *args: str) -> Mapping[str, object]:
    container = {"name": "main", "image": "podidentity/azure-sdk", "args": ["-c", program, *args]}
    metadata = {"name": name, "labels": {"aadpodidbinding": f"{identity}-binding"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


async def _serving(lab: RunningLab, count: int) -> bool:
    """Whether each peer has said that it got a token: none of them is starting any more."""
    try:
        return all([await lab.cluster.client.raw("GET", f"{PODS}/peer-{number}/log") for number in range(count)])
    except KubeError:  # a container is not there yet
        return False


async def _imds_calls(lab: RunningLab) -> int:
    return (await lab.azure.counters()).imds_requests("node")


def _plan(host: str, port: int, connections: int, seconds: float, *, fresh: bool = False) -> str:
    plan = {"host": host, "port": port, "path": TOKEN_PATH, "headers": {"Metadata": "true"}, "fresh": fresh}
    return json.dumps({**plan, "connections": connections, "seconds": seconds})


async def _load(lab: RunningLab, plan: str, pod: str = "load") -> Mapping[str, float]:
    """One run of the load generator in a pod; no answer may be a refusal."""
    found = await run_json(lab, pod, sys.executable, "-c", (HERE / "load_generator.py").read_text(), plan)
    if found["refused"]:
        raise RuntimeError(f"{found['refused']:.0f} of {found['requests']:.0f} answers were no token")
    return found


def _agent() -> Usage:
    """The one nmi of the lab."""
    found: Sequence[Usage] = [one for one in descendants(os.getpid()) if {"podidentity", "nmi"} <= set(one.command)]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} processes of the lab are nmi")
    return found[0]
