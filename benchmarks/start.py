"""mic starts in a large cluster of a real API server: how long, and what it takes, until it leads."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assignment import SUBSCRIPTION, Case, Records, client_id, running_mic
from bars import MEBI
from loopback import CONTROLLER, CONTROLLER_SECRET, TENANT, Site, running_site
from processes import cpu, usage
from report import Report
from scale import IDENTITIES_PER_NODE, PODS_PER_NODE, Size
from stored import cluster, load, pod

RG = "rg"
"""Of machines and identities, as `events` names them."""
AFTER = 10.0
"""Seconds of leading after which memory is looked at again: every machine has had its first look by then, or waits."""
ROOM = Path("/dev/shm")
"""Where etcd's files are, if there is room: a large cluster is half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Start:
    """A cluster of which ``labelled`` pods have the label."""

    size: Size
    labelled: int


def seed(size: Size) -> Mapping[str, object]:
    """Machines that have their identities already."""
    return {
        "tenantId": TENANT,
        "subscriptionId": SUBSCRIPTION,
        "resourceGroups": [RG],
        "vms": [
            {
                "name": f"vm-{number}",
                "resourceGroup": RG,
                "identities": [f"app-{size.app(number * PODS_PER_NODE + one)}" for one in range(IDENTITIES_PER_NODE)],
            }
            for number in range(size.nodes)
        ],
        "identities": [
            {"name": f"app-{number}", "resourceGroup": RG, "clientId": client_id(number)}
            for number in range(size.identities)
        ],
        "servicePrincipals": [{"clientId": CONTROLLER, "secret": CONTROLLER_SECRET}],
        "roleAssignments": [
            {"principal": CONTROLLER, "role": role, "scope": RG}
            for role in ("Virtual Machine Contributor", "Managed Identity Operator")
        ],
    }


async def _measured(start: Start) -> Sequence[str]:
    size = start.size
    loaded = 0.0

    async def fill(etcd: str) -> None:
        nonlocal loaded
        begun = time.monotonic()
        await load(etcd, cluster(size, start.labelled))
        loaded = time.monotonic() - begun

    room = ROOM if os.access(ROOM, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="podidentity-bench-", dir=room) as folder:
        async with running_site(Path(folder), seed(size), "real", fill) as site:
            return await _started(site, start, loaded)


async def _started(site: Site, start: Start, loaded: float) -> Sequence[str]:
    begun, api = time.monotonic(), cpu(site.api_pid)
    async with running_mic(site, Case("start", ()), within=600.0) as mic:
        ready, leads = time.monotonic() - begun, usage(mic)
        api = cpu(site.api_pid) - api
        await asyncio.sleep(AFTER)
        later = usage(mic)
        waited = await _one_more(site, start.size)
    return (
        f"{start.size.pods:,} pods, {start.labelled:,} labelled; {start.size.nodes:,} nodes",
        f"{loaded:.0f}",
        f"{ready:.1f}",
        f"{leads.cpu:.1f}",
        f"{api:.1f}",
        f"{later.peak * MEBI:.0f}",
        f"{later.rss * MEBI:.0f}",
        f"{waited:.2f}",
    )


async def _one_more(site: Site, size: Size) -> float:
    """Seconds from the creation of a bound pod, whose identity its machine has, to Assigned."""
    body = {**pod(size, 0, labelled=True)}
    body["metadata"] = {"name": "one-more", "labels": body["metadata"]["labels"]}
    records = Records()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(records.follow(site))
        await records.following.wait()
        begun = time.monotonic()
        await site.client.raw("POST", "/api/v1/namespaces/default/pods", body=body)
        await records.until(lambda: f"one-more-default-app-{size.app(0)}" in records.assigned_at)
        following.cancel()
    return time.monotonic() - begun


async def measure(quick: bool) -> Report:
    """Measure."""
    whole = Size(1_000 if quick else 100_000)
    starts = [Start(whole, whole.pods // 20), Start(whole, whole.pods)][1 if quick else 0 :]
    return Report(
        title="start: mic starts in a large cluster of a real API server",
        compares="the same cluster with few and with only labelled pods; pods are about 4 kB, each labelled one has "
        "its record, Assigned, and its identity on its machine. Seconds from the start of the process until it leads: "
        "everything is listed and matched by then. The bar is 600 MB with 100,000 labelled pods",
        columns=(
            "cluster",
            "load s",
            "leads after s",
            "mic CPU s",
            "API CPU s",
            "peak MB",
            f"MB {AFTER:.0f} s later",
            "one more pod s",
        ),
        rows=[await _measured(start) for start in starts],
        bound="the API's encoding of the lists and mic's decoding and matching of them, each on one core",
    )
