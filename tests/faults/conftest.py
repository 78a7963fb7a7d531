"""How often the faults are played, the site they are played on, and the table of what was measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.faults import outcome
from tests.faults.judge import Made, Seen, Verdict, judge
from tests.faults.ledger import Balance, Ledger
from tests.faults.links import Relay
from tests.faults.outcome import Outcome
from tests.faults.patches import Patches
from tests.faults.records import Original, Records
from tests.faults.site import (
    AUDIT,
    SEED,
    Api,
    Azure,
    Mic,
    azure_at,
    background,
    churn,
    install,
    kubernetes_writes,
    populate,
    token_of_mic,
    until,
)
from tests.faults.table import Row, lines
from tests.faults.village import swept
from tests.real_server import RealServer, running_control_plane

LONG = os.environ.get("PODIDENTITY_FAULTS") == "long"
"""`make faults`: the tables with all their rounds; else one short round, which `make test` has time for."""


ROWS = pytest.StashKey[list[Row]]()
OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tables of what was measured."""
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("leadership")
        for line in lines(rows):
            terminalreporter.write_line(line)
    outcomes = config.stash.get(OUTCOMES, [])
    if outcomes:
        terminalreporter.section("the controller under churn")
        for line in outcome.lines(outcomes):
            terminalreporter.write_line(line)


@dataclass
class Site:
    """Everything a fault needs."""

    server: RealServer
    api: Api
    azure: Azure
    records: Records
    mics: dict[str, Mic]
    lease: float
    table: list[Row]
    audit: Path

    @property
    def original(self) -> Original:
        """A stand-in for the original."""
        return Original(self.api, self.lease)

    async def start(self) -> None:
        """Have all mics run and ready to lead."""
        await asyncio.gather(*(mic.start() for mic in self.mics.values()))

    async def settled(self) -> tuple[Mic, Mic]:
        """Leader and standby, once both are well."""
        await self.start()
        leader = self.mics[(await self._leader_after(time.time(), *self.mics)).holder]
        (standby,) = (mic for mic in self.mics.values() if mic is not leader)
        return leader, standby

    async def took(self, since: float, *names: str) -> float:
        """Seconds from ``since`` to the first renewal of one of ``names`` (anybody's) that holds both records."""
        return (await self._leader_after(since, *(names or self.mics))).renewed - since

    async def _leader_after(self, since: float, *names: str) -> Seen:
        within = self.lease * 4 + 20
        return await self.records.until_leader(*names, lease=self.lease, since=since, within=within)

    async def until_arm_write(self, since: float) -> None:
        """Wait for a PATCH that arrived after ``since``."""

        async def made() -> bool:
            return bool(self.azure.made) and self.azure.made[-1].at > since

        await until(made, "a PATCH")

    def verdicts(self, since: float) -> tuple[Verdict, Verdict]:
        """The judgement on all writes after ``since``, at Azure and of records."""
        seen = self.records.seen
        arm = [write for write in self.azure.made if write.at >= since]
        kubernetes = [write for write in kubernetes_writes(self.audit) if write.at >= since]
        known = [write for write in kubernetes if write.source in self.mics]
        return judge(seen, arm, self.lease), judge(seen, known, self.lease)

    async def conclude(self, fault: str, since: float, took: float) -> None:
        """Enter a fault into the table; nobody but the leader may have written."""
        if LONG:
            await asyncio.sleep(self.lease)
        arm, kubernetes = self.verdicts(since)
        self.table.append(Row(fault, "real", self.lease, took, arm, kubernetes))
        assert not told(arm.foreign + kubernetes.foreign), "written by a non-leader"
        assert not told(arm.late + kubernetes.late), "written after the sender's own deadline"


def told(writes: tuple[Made, ...]) -> list[str]:
    """Writes in words, for a failure."""
    return [f"{write.at:.3f} {write.source} {write.what}" for write in writes]


def judged(
    fault: str,
    clock: str,
    *,
    patches: Patches,
    ledger: Ledger,
    balance: Balance,
    verdicts: tuple[Verdict, Verdict],
    took: float,
    sight: float,
    grace: float = 0,
) -> tuple[Outcome, list[str]]:
    """A round's line in the table, and in words what is wrong with it; ``verdicts``: of PATCHes and of records."""
    wrong = ledger.wrong(patches.removals, sight=sight, grace=grace)
    taken = [removal for removal in patches.removals if removal.identity in patches.before[removal.host]]
    foreign = verdicts[0].foreign + verdicts[1].foreign
    outcome = Outcome(
        fault=fault,
        clock=clock,
        records=verdicts[1].writes,
        patches=verdicts[0].writes,
        wrong=len(wrong) + len(taken),
        lost=len(balance.lost),
        leaked=len(balance.leaked) + len(balance.stale),
        foreign=len(foreign),
        overlaps=len(patches.overlaps),
        took=took,
    )
    complaints = [
        *(f"removed while in use: {removal} {use}" for removal, use in wrong),
        *(f"not ours to remove: {removal}" for removal in taken),
        *([] if balance.even and took < math.inf else [f"not even: {balance}"]),
        *(f"by a non-leader: {write}" for write in told(foreign)),
        *(f"two PATCHes at once: {overlap}" for overlap in patches.overlaps),
    ]
    return outcome, complaints


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A control plane that may be stopped, with an audit log of who writes records."""
    folder = tmp_path_factory.mktemp("faults")
    policy = folder / "audit.json"
    policy.write_text(json.dumps(AUDIT))
    audit = (
        f"--audit-policy-file={policy}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--audit-log-batch-buffer-size=1",
    )
    with running_control_plane(folder, *audit) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def furnished(own_server: RealServer) -> AsyncIterator[Api]:
    """The administrator of a cluster that mic is installed in."""
    api = Api(own_server)
    try:
        await install(api)
        yield api
    finally:
        await api.session.close()


def rounds() -> list[object]:
    """The leases, in seconds, that the faults are played with."""
    leases = (4, 4, 4, 15) if LONG else (4,)
    return [pytest.param(float(lease), id=f"{lease}s-{number}") for number, lease in enumerate(leases, 1)]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=rounds())
async def site(
    request: pytest.FixtureRequest,
    own_server: RealServer,
    furnished: Api,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    """Two mics, a cluster where pods come and go, a reader of the records."""
    folder, pki, lease = tmp_path_factory.mktemp("site"), own_server.folder / "pki", float(request.param)
    async with contextlib.AsyncExitStack() as stack:
        azure, port = await stack.enter_async_context(azure_at(folder / "azure", pki, SEED))
        await swept(furnished)
        await populate(furnished)
        mics, token = {}, await token_of_mic(furnished)
        for name in ("one", "two"):
            to_api = await stack.enter_async_context(Relay(own_server.plane.port).serving())
            to_azure = await stack.enter_async_context(Relay(port, tunnel=True).serving())
            mics[name] = Mic(name, folder, lease, pki, token, to_api, to_azure)
            stack.push_async_callback(mics[name].stop)
        records = Records(furnished)
        await stack.enter_async_context(background(records.watch()))
        await stack.enter_async_context(background(churn(furnished)))
        table = request.config.stash.setdefault(ROWS, [])
        yield Site(own_server, furnished, azure, records, mics, lease, table, own_server.folder / "audit.log")
