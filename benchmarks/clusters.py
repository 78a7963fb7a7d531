"""mic with the clusters of its bars: many pods, slow machines, identities that do not exist, a machine that hangs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assignment import Case, Records, bind, floor, prepare, running_mic, seed, unbind
from bars import Bar, Figures, cells
from cronjob import hour
from loopback import Server, Site, running_site
from processes import usage
from report import Report, quantile
from simulation import simulate, unlogged

HANGS = {"service": "arm", "method": "PATCH", "path": "virtualMachines/vm-0[?]", "delay": 3600.0}
UNAFFECTED = (1.25, 0.5)
"""Of the machines beside one that hangs: so many times the seconds they take when none does, and so many more."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A case, its bar, and which records are waited for.

    ``remove``: the pods are deleted again. ``beside``: the bar is what the same takes without the case's faults.
    """

    case: Case
    bar: Bar
    waited: Callable[[str, Case], bool] = lambda _name, _case: True
    remove: bool = False
    beside: bool = False


def _exists(name: str, case: Case) -> bool:
    """Whether the identity of a record is in Azure."""
    return int(name.rpartition("-")[2]) >= case.missing


def _moves(name: str, case: Case) -> bool:
    """Whether a record's pod is on a machine that does not hang."""
    return int(name.split("-")[1]) % case.vms != 0


CLUSTERS = (
    Cluster(
        Case("200 pods, 10 VMs, 20 identities", ()),
        Bar(assigned=3, removed=3, original="79 s, 120 s (at QPS 100: 3.3 s, 6 s)"),
        remove=True,
    ),
    Cluster(
        Case("2,000 pods, 50 VMs, 20 identities", (), pods=2000, vms=50),
        Bar(
            assigned=10,
            p50=3,
            removed=15,
            patches=100,
            rss=100,
            by_writes=True,
            original="at QPS 100: 39 s, p50 29 s, 60 s, 101 PATCHes, 177 MB",
        ),
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
        Bar(assigned=45, patches=2, original="94 s, 3 PATCHes"),
    ),
    Cluster(
        Case("40 pods, 5 VMs, PATCH 10 s", (), pods=40, vms=5, identities=5, faults={"arm_delay_vm": 10.0}),
        Bar(assigned=12, patches=10, original="28 s, 10 PATCHes"),
    ),
    Cluster(
        Case("40 pods, 4 VMs, 1 of 5 identities does not exist", (), pods=40, vms=4, identities=5, missing=1),
        Bar(assigned=1.5, patches=12, original="at QPS 100: 1.5 s, 17 PATCHes"),
        waited=_exists,
    ),
    Cluster(
        Case("10 VMs, one hangs: the other 9", (), pods=100, vms=10, identities=5, faults={"rules": [HANGS]}),
        Bar(original="waits for the slowest"),
        waited=_moves,
        beside=True,
    ),
)
QUICK = (
    Cluster(
        Case("small", (), pods=4, vms=2, identities=2, missing=1, faults={"rules": [HANGS]}),
        Bar(),
        waited=lambda name, case: _exists(name, case) and _moves(name, case),
    ),
)
SERVERS: tuple[Server, ...] = ("embedded", "real")
CRONJOB = Bar(patches=2, original="2 PATCHes a minute")
"""For an hour of a CronJob's pods and its end, at the default linger: on the virtual clock, without an API."""


async def measure(quick: bool) -> Report:
    """Measure."""
    rows: list[Sequence[str]] = []
    for server in SERVERS[:1] if quick else SERVERS:
        for cluster in QUICK if quick else CLUSTERS:
            bar, found = await _measured(cluster, server)
            rows.append((cluster.case.name, server, *cells(bar, found), bar.original))
    with unlogged():
        found = await asyncio.to_thread(simulate, hour())
    rows.append(("a CronJob's pod each minute for an hour", "virtual", *cells(CRONJOB, found), CRONJOB.original))
    return Report(
        title="clusters: mic at default flags with the clusters of its bars (bars in parentheses)",
        compares="mic with its bars and with the original, which was measured elsewhere on a real API server; seconds "
        "from the last pod bound to the last Assigned (p50: of a pod), from the last pod deleted to the last record "
        "gone (linger 0); writes/s: what a bare client gets of the same API in the same run, for records like mic's. "
        "With 2,000 pods a time may be 1.5 x the seconds that two writes a pod take at that rate",
        columns=(
            "",
            "API",
            "assigned s",
            "p50 s",
            "removed s",
            "PATCHes",
            "RSS MB",
            "writes/s",
            "bars",
            "the original",
        ),
        rows=rows,
        bound="the simulated machines' time for a change, then record writes at the API: two a pod",
    )


async def _measured(cluster: Cluster, server: Server) -> tuple[Bar, Figures]:
    """The cluster's bar and figures."""
    bar = cluster.bar
    if cluster.beside:
        alone = await _figures(replace(cluster, case=replace(cluster.case, faults={})), server)
        factor, more = UNAFFECTED
        bar = replace(bar, assigned=alone.assigned * factor + more)
    return bar, await _figures(cluster, server)


async def _figures(cluster: Cluster, server: Server) -> Figures:
    with tempfile.TemporaryDirectory(prefix="podidentity-bench-") as folder:
        async with running_site(Path(folder), seed(cluster.case), server) as site:
            return await _played(site, cluster)


async def _played(site: Site, cluster: Cluster) -> Figures:
    case = cluster.case
    await prepare(site, case)
    rate = await floor(site, max(100, min(case.pods, 500)))
    if case.faults:
        await site.azure.call("PUT", "/faults", case.faults)
    records = Records()
    async with running_mic(site, case) as mic, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(records.follow(site))
        await records.following.wait()
        before = await site.patches()
        await bind(site, case)
        begun = time.monotonic()
        names = [f"pod-{n}-default-app-{n // case.vms % case.identities}" for n in range(case.pods)]
        waited = [name for name in names if cluster.waited(name, case)]
        await records.until(lambda: records.assigned_at.keys() >= set(waited))
        assigned = time.monotonic() - begun
        patches, rss = await site.patches() - before, usage(mic).peak
        removed = await _remove(site, case, records) if cluster.remove else 0.0
        following.cancel()
    took = [max(records.assigned_at[name] - begun, 0.0) for name in waited]
    return Figures(len(waited), assigned, quantile(took, 0.5), removed, patches, rss, rate)


async def _remove(site: Site, case: Case, records: Records) -> float:
    await unbind(site, case)
    begun = time.monotonic()
    await records.until(lambda: not records.states)
    return time.monotonic() - begun
