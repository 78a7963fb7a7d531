"""How long mic takes from pods bound to their identities assigned, and what it costs at the API and at ARM."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from loopback import CONTROLLER, CONTROLLER_SECRET, TENANT, Site, running_site
from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Pod, PodSpec
from podidentity.api.identity import AzureAssignedIdentity
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES, AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS, EVENTS
from podidentity.kube.reflector import Reflector
from podidentity.kube.store import Change, Store
from podidentity.mic.wanted import assigned_identity, wanted
from processes import ProcessError, cpu, ended, free_port, last_line, started
from report import Report, ratio

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
GROUP = "rg-nodes"
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
CRD_PATH = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
PODS_PATH = "/api/v1/namespaces/default/pods"
WITH_LIMIT = 20
"""Our own requests in flight."""
PATIENCE = 150.0


@dataclass(frozen=True, slots=True)
class Case:
    """``pods`` on ``vms`` machines, each pod with one of ``identities``; mic's further flags; ``runs`` of it.

    ``scale_set``: the nodes are instances of one scale set. ``missing``: so many of the identities are not in Azure.
    ``faults``: the simulated Azure's switches.
    """

    name: str
    flags: tuple[str, ...]
    pods: int = 200
    vms: int = 10
    identities: int = 20
    runs: int = 1
    scale_set: bool = False
    missing: int = 0
    faults: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """One direction: seconds, PATCHes at ARM, writes of records, all API writes but ours, CPU seconds of each."""

    seconds: float
    patches: int
    records: int
    writes: int
    mic_cpu: float
    api_cpu: float


@dataclass(frozen=True, slots=True)
class Result:
    """A case measured. ``floor``: record writes a second of a bare client."""

    case: Case
    floor: float
    assign: Phase
    remove: Phase


@dataclass(slots=True)
class Records:
    """What a watch tells of the assigned identities; ``assigned_at``: when each became Assigned (monotonic)."""

    states: dict[str, str] = field(default_factory=dict)
    assigned_at: dict[str, float] = field(default_factory=dict)
    writes: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    following: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, site: Site) -> None:
        """Watch until cancelled."""
        reflector = Reflector(site.client, AZURE_ASSIGNED_IDENTITIES, Store(), on_change=self._changed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reflector.run())
            await reflector.synced.wait()
            self.following.set()

    def _changed(self, change: Change[AzureAssignedIdentity]) -> None:
        self.writes += 1
        if change.new is not None:
            self.states[change.new.name] = change.new.status.status
            if change.new.status.status == "Assigned":
                self.assigned_at.setdefault(change.new.name, time.monotonic())
        elif change.old is not None:
            self.states.pop(change.old.name, None)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; TimeoutError after PATIENCE seconds."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


def seed(case: Case) -> dict[str, object]:
    """Machines, identities, and what mic may do with them."""
    roles = ("Virtual Machine Contributor", "Managed Identity Operator")
    return {
        "tenantId": TENANT,
        "subscriptionId": SUBSCRIPTION,
        "resourceGroups": [GROUP],
        "vms": [
            {"name": f"vm-{number}", "resourceGroup": GROUP} for number in range(0 if case.scale_set else case.vms)
        ],
        "scaleSets": [{"name": "pool", "resourceGroup": GROUP, "instances": case.vms}] if case.scale_set else [],
        "identities": [
            {"name": f"app-{number}", "resourceGroup": GROUP, "clientId": client_id(number)}
            for number in range(case.missing, case.identities)
        ],
        "servicePrincipals": [{"clientId": CONTROLLER, "secret": CONTROLLER_SECRET}],
        "roleAssignments": [{"principal": CONTROLLER, "role": role, "scope": GROUP} for role in roles],
    }


def client_id(number: int) -> str:
    """The client id of an identity."""
    return f"aaaaaaaa-0000-0000-0000-{number:012d}"


async def together(calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Make all the calls, so many at a time as WITH_LIMIT says."""
    waiting = iter(list(calls))

    async def work() -> None:
        for call in waiting:
            await call()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WITH_LIMIT):
            tasks.create_task(work())


async def prepare(site: Site, case: Case) -> None:
    """Nodes, identities, bindings, and pods that no scheduler has bound yet."""

    def post(path: str, obj: Mapping[str, object]) -> Callable[[], Awaitable[object]]:
        return lambda: site.client.raw("POST", path, body=obj)

    calls = []
    for number in range(case.vms):
        machine = (
            f"virtualMachineScaleSets/pool/virtualMachines/{number}"
            if case.scale_set
            else f"virtualMachines/vm-{number}"
        )
        spec = {"providerID": f"azure://{SCOPE}/Microsoft.Compute/{machine}"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}, "spec": spec}
        calls.append(post("/api/v1/nodes", node))
    for number in range(case.identities):
        name, base = f"app-{number}", {"apiVersion": "aadpodidentity.k8s.io/v1", "metadata": {"name": f"app-{number}"}}
        arm_id = f"{SCOPE}/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        identity = {"type": 0, "resourceID": arm_id, "clientID": client_id(number)}
        calls.append(post(f"{CRD_PATH}/azureidentities", {**base, "kind": "AzureIdentity", "spec": identity}))
        bound = {"azureIdentity": name, "selector": name}
        calls.append(post(f"{CRD_PATH}/azureidentitybindings", {**base, "kind": "AzureIdentityBinding", "spec": bound}))
    for number in range(case.pods):
        label = f"app-{number // case.vms % case.identities}"
        meta = {"name": f"pod-{number}", "labels": {POD_LABEL: label}}
        containers = [{"name": "main", "image": "none"}]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers}}
        calls.append(post(PODS_PATH, pod))
    await together(calls)


async def bind(site: Site, case: Case) -> None:
    """What a scheduler does, to all pods, spread evenly over the machines."""

    def one(number: int) -> Callable[[], Awaitable[object]]:
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": f"pod-{number}"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": f"node-{number % case.vms}"},
        }
        return lambda: site.client.raw("POST", f"{PODS_PATH}/pod-{number}/binding", body=body)

    await together(one(number) for number in range(case.pods))


async def unbind(site: Site, case: Case) -> None:
    """Delete all pods at once."""

    def one(number: int) -> Callable[[], Awaitable[object]]:
        return lambda: site.client.raw("DELETE", f"{PODS_PATH}/pod-{number}", params={"gracePeriodSeconds": "0"})

    await together(one(number) for number in range(case.pods))


async def floor(site: Site, count: int) -> float:
    """Writes a second that a bare client gets from this API: ``count`` records like mic's, created, settled, deleted.

    Call it before mic runs: no pod has them.
    """
    identity = (await site.client.list(AZURE_IDENTITIES)).items[0]
    binding = (await site.client.list(AZURE_IDENTITY_BINDINGS)).items[0]

    async def write(number: int) -> None:
        name = f"floor-{number}"
        meta = ObjectMeta(name=name, namespace="default", uid=name)
        pod = Pod(metadata=meta, spec=PodSpec(node_name="node-0"))
        record = assigned_identity(wanted(pod, identity, binding, "default"), name, {}, state="Created")
        record = msgspec.structs.replace(record, metadata=msgspec.structs.replace(record.metadata, finalizers=()))
        assigned = [{"op": "replace", "path": "/status/status", "value": "Assigned"}]
        await site.client.create(AZURE_ASSIGNED_IDENTITIES, record)
        await site.client.patch_json(AZURE_ASSIGNED_IDENTITIES, name, "default", assigned)
        await site.client.delete(AZURE_ASSIGNED_IDENTITIES, name, "default")

    start = time.monotonic()
    await together(partial(write, number) for number in range(count))
    return 3 * count / (time.monotonic() - start)


@asynccontextmanager
async def running_mic(site: Site, case: Case, within: float = PATIENCE) -> AsyncIterator[int]:
    """A process that is mic and leads, ``within`` seconds; its pid."""
    probe = free_port()
    words = [sys.executable, "-m", "podidentity", "mic", f"--kubeconfig={site.layout.kubeconfig}"]
    words += [f"--cloudconfig={site.azure_json(SUBSCRIPTION, GROUP)}", f"--http-probe-port={probe}"]
    words += [f"--prometheus-port={free_port()}", "--identity-removal-linger=0s", *case.flags]
    log = site.layout.logs / "mic.log"
    async with started(words, log, environ=site.mic_environ()) as pid, aiohttp.ClientSession() as session:
        begun = time.monotonic()
        while not await _leads(session, probe):
            if ended(pid) or time.monotonic() - begun > within:
                raise ProcessError(f"mic does not lead: {last_line(log)}")
            await asyncio.sleep(0.05)
        yield pid


async def _leads(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            return await answer.text() == "Active"
    except aiohttp.ClientConnectionError:
        return False


async def _revision(site: Site) -> int:
    """The API's counter of writes of all kinds."""
    return int((await site.client.list(EVENTS, field_selector="metadata.name=none")).resource_version)


@dataclass(frozen=True, slots=True)
class Run:
    """A case being measured: ``mic`` is the pid, ``records`` what a watch of ours tells."""

    site: Site
    case: Case
    records: Records
    mic: int

    async def phase(self, ours: Callable[[Site, Case], Awaitable[None]], state: str, count: int) -> Phase:
        """Make ``ours``, one write a pod, and wait for ``count`` records in all, each in ``state``.

        The clock runs from the last of our writes; what is counted is counted from the first.
        """
        site, records = self.site, self.records
        patches, written, revision = await site.patches(), records.writes, await _revision(site)
        mic_cpu, api_cpu = cpu(self.mic), cpu(site.api_pid)
        await ours(site, self.case)
        begun = time.monotonic()
        await records.until(lambda: list(records.states.values()) == [state] * count)
        return Phase(
            seconds=time.monotonic() - begun,
            patches=await site.patches() - patches,
            records=records.writes - written,
            writes=await _revision(site) - revision - self.case.pods,
            mic_cpu=cpu(self.mic) - mic_cpu,
            api_cpu=cpu(site.api_pid) - api_cpu,
        )


async def measure_case(site: Site, case: Case) -> Result:
    """Assign, then remove, with a mic of its own; before it, what the API can do."""
    await prepare(site, case)
    bare = await floor(site, case.pods)
    records = Records()
    async with running_mic(site, case) as mic, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(records.follow(site))
        run = Run(site, case, records, mic)
        assign = await run.phase(bind, "Assigned", case.pods)
        remove = await run.phase(unbind, "", 0)
        following.cancel()
    return Result(case, bare, assign, remove)


QUICK = (Case("default flags", (), pods=6, vms=2, identities=3, runs=1),)
CASES = (Case("default flags", (), runs=3), Case("--clientQps=100", ("--clientQps=100",), runs=1))


async def measure(quick: bool) -> Report:
    """Measure."""
    rows: list[tuple[str, ...]] = []
    for case in QUICK if quick else CASES:
        results = []
        for _ in range(case.runs):
            with tempfile.TemporaryDirectory(prefix="podidentity-bench-") as folder:
                async with running_site(Path(folder), seed(case)) as site:
                    results.append(await measure_case(site, case))
        results.sort(key=lambda result: result.assign.seconds)
        rows += _rows(results[len(results) // 2], results[-1])
    shown = (QUICK if quick else CASES)[0]
    return Report(
        title=f"assignment: {shown.pods} pods on {shown.vms} virtual machines, {shown.identities} identities",
        compares="mic (a process of its own, as are the embedded API and the simulated Azure, whose machines take "
        "0.2 s for a change) with a bare client that makes the same number of record writes at the same API (floor s); "
        "seconds: from the last pod bound to the last Assigned, from the last pod deleted to the last record gone "
        f"(linger 0); the middle one of {shown.runs} runs at default flags, and the slowest (worst s)",
        columns=(
            "",
            "seconds",
            "worst s",
            "floor s",
            "ratio",
            "PATCHes",
            "records",
            "writes",
            "mic CPU s",
            "API CPU s",
        ),
        rows=rows,
        bound="with --clientQps given, that limit: two writes a record, so 80 s at 5 a second. Without it, ARM: mic "
        "reads a machine, waits 0.1 s for more to want, PATCHes, follows the operation, reads again. "
        "records: writes of assigned identities; writes: of anything but our own, Events included",
    )


def _rows(result: Result, worst: Result) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    phases = (("assign", result.assign, worst.assign), ("remove", result.remove, worst.remove))
    for word, phase, slowest in phases:
        least = phase.records / result.floor
        rows.append(
            (
                f"{word}, {result.case.name}",
                f"{phase.seconds:.2f}",
                f"{max(phase.seconds, slowest.seconds):.2f}",
                f"{least:.2f}",
                ratio(phase.seconds, least),
                str(phase.patches),
                str(phase.records),
                str(phase.writes),
                f"{phase.mic_cpu:.2f}",
                f"{phase.api_cpu:.2f}",
            )
        )
    return rows
