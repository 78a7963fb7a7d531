"""mic with the clusters of its bars: many pods, slow machines, identities that do not exist, a machine that hangs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from assignment import Case, Records, bind, floor, prepare, running_mic, seed, unbind
from loopback import Site, running_site
from processes import usage
from report import Report, quantile

HANGS = {"service": "arm", "method": "PATCH", "path": "virtualMachines/vm-0[?]", "delay": 3600.0}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A case, the bar of mic's issue, what the original was measured to take, and which records are waited for."""

    case: Case
    bar: str
    original: str
    waited: Callable[[str, Case], bool] = lambda _name, _case: True
    remove: bool = False


def _exists(name: str, case: Case) -> bool:
    """Whether the identity of a record is in Azure."""
    return int(name.rpartition("-")[2]) >= case.missing


def _moves(name: str, case: Case) -> bool:
    """Whether a record's pod is on a machine that does not hang."""
    return int(name.split("-")[1]) % case.vms != 0


CLUSTERS = (
    Cluster(
        Case("2,000 pods, 50 VMs, 20 identities", (), pods=2000, vms=50),
        "assigned 10 s, p50 3 s; removed 15 s; 100 MB; 100 PATCHes",
        "at QPS 100: 39 s, p50 29 s; 60 s; 177 MB; 101",
        remove=True,
    ),
    Cluster(
        Case(
            "40 pods, 5 identities, one scale set, PATCH 40 s",
            (),
            pods=40,
            vms=5,
            identities=5,
            scale_set=True,
            faults={"arm_delay_vmss": 40.0},
        ),
        "45 s; 2 PATCHes",
        "94 s; 3",
    ),
    Cluster(
        Case("40 pods, 5 VMs, PATCH 10 s", (), pods=40, vms=5, identities=5, faults={"arm_delay_vm": 10.0}),
        "12 s; 10 PATCHes",
        "28 s; 10",
    ),
    Cluster(
        Case("40 pods, 4 VMs, 1 of 5 identities does not exist", (), pods=40, vms=4, identities=5, missing=1),
        "32 good in 1.5 s; 12 PATCHes",
        "at QPS 100: 1.5 s; 17",
        waited=_exists,
    ),
    Cluster(
        Case("10 VMs, one hangs", (), pods=100, vms=10, identities=5, faults={"rules": [HANGS]}),
        "the other 9 unaffected",
        "waits for the slowest",
        waited=_moves,
    ),
)
QUICK = (
    Cluster(
        Case("small", (), pods=4, vms=2, identities=2, missing=1, faults={"rules": [HANGS]}),
        "-",
        "-",
        waited=lambda name, case: _exists(name, case) and _moves(name, case),
    ),
)


async def measure(quick: bool) -> Report:
    """Measure."""
    rows: list[Sequence[str]] = []
    for cluster in QUICK if quick else CLUSTERS:
        with tempfile.TemporaryDirectory(prefix="podidentity-bench-") as folder:
            async with running_site(Path(folder), seed(cluster.case)) as site:
                rows.append(await _row(site, cluster))
    return Report(
        title="clusters: mic at default flags with the clusters of its bars",
        compares="mic with its bars and with the original, which was measured elsewhere on a real API server; seconds "
        "from the last pod bound to the last Assigned (p50: of a pod), from the last pod deleted to the last record "
        "gone (linger 0); floor: what a bare client needs for as many writes at the same API",
        columns=("", "assigned s", "p50 s", "floor s", "removed s", "PATCHes", "RSS MiB", "bar", "the original"),
        rows=rows,
        bound="the simulated machines' time for a change, then record writes at the API: two a pod",
    )


async def _row(site: Site, cluster: Cluster) -> Sequence[str]:
    case = cluster.case
    await prepare(site, case)
    bare = await floor(site, min(case.pods, 200))
    if case.faults:
        await site.azure.call("PUT", "/faults", case.faults)
    records = Records()
    async with running_mic(site, case) as mic, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(records.follow(site))
        await asyncio.sleep(0.2)
        before = await site.patches()
        await bind(site, case)
        begun = time.monotonic()
        names = [f"pod-{n}-default-app-{n // case.vms % case.identities}" for n in range(case.pods)]
        waited = [name for name in names if cluster.waited(name, case)]
        await records.until(lambda: all(name in records.assigned_at for name in waited))
        assigned = time.monotonic() - begun
        patches, rss = await site.patches() - before, usage(mic).peak
        removed = await _remove(site, case, records) if cluster.remove else None
        following.cancel()
    took = [max(records.assigned_at[name] - begun, 0.0) for name in waited]
    return (
        case.name,
        f"{assigned:.2f}",
        f"{quantile(took, 0.5):.2f}",
        f"{2 * len(waited) / bare:.2f}",
        "-" if removed is None else f"{removed:.2f}",
        str(patches),
        f"{rss:.0f}",
        cluster.bar,
        cluster.original,
    )


async def _remove(site: Site, case: Case, records: Records) -> float:
    await unbind(site, case)
    begun = time.monotonic()
    await records.until(lambda: not records.states)
    return time.monotonic() - begun
