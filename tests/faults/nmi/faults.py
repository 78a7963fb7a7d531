"""The faults that are played on the agent, as data: what is done, for how long, and how soon all must be well again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.processes import Process
from tests.e2e.stage import until
from tests.faults.conftest import LONG
from tests.faults.nmi.site import ELSEWHERE, NMI, Guest, Site

METADATA: Final = "ip daddr 169.254.169.254 tcp dport 80"
API: Final = "10.240.0.1"
NOTICED: Final = 25
"""Seconds after which the liveness probe has failed twice."""
WATCHES: Final = 3
"""Connections to the API that nmi keeps: pods, assigned identities, exceptions."""
_ESTABLISHED: Final = "01"


@dataclass(frozen=True, slots=True)
class Fault:
    """``play`` does it and undoes it; ``long`` and ``short`` are how many seconds it lasts, or how often it is done.

    ``within`` seconds of its end every pod has tokens again; an SDK waits up to half a minute between its tries.
    ``real``: even a short run plays it on both API servers.
    ``gentle``: no request may fail meanwhile.
    """

    name: str
    play: Callable[[Site, float], Awaitable[None]]
    long: float = 10
    short: float = 2
    within: float = 90
    real: bool = False
    gentle: bool = False

    def __str__(self) -> str:
        """Its name."""
        return self.name


async def nothing(_site: Site, hold: float) -> None:
    """Look at how it is."""
    await asyncio.sleep(hold)


# -- the agent's process -----------------------------------------------------------------------------------------


async def killed(site: Site, _hold: float) -> None:
    """End it at once."""
    await site.fresh()
    old = site.agent()
    os.kill(old.pid, signal.SIGKILL)
    await site.replaced(old)


async def told_to_end(site: Site, _hold: float) -> None:
    """Let it end in order; the kubelet starts the container again."""
    await site.fresh()
    old = site.agent()
    os.kill(old.pid, signal.SIGTERM)
    await site.replaced(old)


async def frozen(site: Site, hold: float) -> None:
    """Let it stand still; after long its liveness probe has told it to end, which it does when it is woken."""
    await site.fresh()
    old = site.agent()
    os.kill(old.pid, signal.SIGSTOP)
    await asyncio.sleep(hold)
    if old.alive:
        os.kill(old.pid, signal.SIGCONT)
    if hold > NOTICED:
        await site.replaced(old)


async def updated(site: Site, _hold: float) -> None:
    """A rolling update with surge; no request may fail."""
    old = site.agent()
    await site.update()
    assert not old.alive


# -- its link to the API -----------------------------------------------------------------------------------------


def _connections(process: Process, address: str) -> set[int]:
    """Local ports of a process's connections to port 443 of an address."""
    folder = Path(f"/proc/{process.pid}")
    links = []
    for entry in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(entry.readlink()))
    inodes = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    remote = "".join(f"{int(part):02X}" for part in reversed(address.split("."))) + ":01BB"
    fields = [line.split() for line in (folder / "net/tcp").read_text().splitlines()[1:]]
    return {
        int(one[1].rpartition(":")[2], 16)
        for one in fields
        if one[2] == remote and one[3] == _ESTABLISHED and one[9] in inodes
    }


async def _silence(process: Process) -> str:
    """Rules that drop all packets of the connections it has to the API; new ones are let through."""

    async def watching() -> bool:
        return len(_connections(process, API)) >= WATCHES

    await until(watching, "nmi watches again", 60)
    ports = ", ".join(map(str, sorted(_connections(process, API))))
    return (
        f"chain gone {{ type filter hook output priority 0; ip daddr {API} tcp sport {{ {ports} }} drop\n }}\n"
        f"chain come {{ type filter hook input priority 0; ip saddr {API} tcp dport {{ {ports} }} drop\n }}"
    )


async def api_gone(site: Site, hold: float) -> None:
    """The API refuses everybody; the agent goes on with what it knows, and nothing is started again."""
    before, restarts = site.agent(), await site.restarts()
    refuse = f"chain gone {{ type filter hook input priority 0; ip daddr {API} tcp dport 443 reject with tcp reset\n }}"
    async with site.rules(refuse, at=site.part("podidentity.lab.cloud")):
        await asyncio.sleep(hold)
    assert site.agent() == before
    await site.settled()
    assert await site.restarts() == restarts


async def dead_watch(site: Site, _hold: float) -> None:
    """Its connections to the API fall silent; a pod that comes meanwhile gets its token all the same."""
    agent = site.agent()
    async with site.rules(await _silence(agent)):
        late = await site.arrive("late", "next", "next")
        await site.fed(0, 90, late)
    await site.leave(late)


async def history_gone(site: Site, hold: float) -> None:
    """It is cut off while things change, and the API server starts anew: the version it watched from is too old."""
    program = "podidentity.lab.kube" if site.server == "embedded" else "kube-apiserver"
    server = site.part(program)
    cut = f"chain gone {{ type filter hook output priority 0; ip daddr {API} tcp dport 443 drop\n }}"
    async with site.rules(cut):
        for number in range(20):
            await site.patch(site.guest("plain").path, {"metadata": {"labels": {"turn": str(number)}}})
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.sleep(hold)
    await site.settled()


# -- the metadata service ----------------------------------------------------------------------------------------


def imds(**faults: object) -> Callable[[Site, float], Awaitable[None]]:
    """The metadata service fails; a pod that comes meanwhile gets its token when it is over."""

    async def play(site: Site, hold: float) -> None:
        await site.imds(**faults)
        late = await site.arrive("late", "next", "next")
        await asyncio.sleep(hold)
        await site.imds(imds_status=0, imds_retry_after=0, imds_delay=0, rules=[])
        await site.fed(0, 60, late)
        await site.leave(late)

    return play


_HANGS: Final = {"service": "imds", "path": "oauth2/token", "delay": 30, "drop": True}
_GARBAGE: Final = {"service": "imds", "path": "oauth2/token", "status": 200}


# -- pods that follow each other ---------------------------------------------------------------------------------


async def _heirs(site: Site, address: str) -> list[Guest]:
    """Pods of another identity until one of them has the address."""
    found: list[Guest] = []
    while not found or await site.address(found[-1]) != address:
        assert len(found) < 13, "the address did not come back"
        found.append(await site.arrive(f"heir-{len(found)}", "other", "other"))
    return found


async def address_reused(site: Site, times: float) -> None:
    """A pod's address passes to a pod of another identity."""
    for _ in range(int(times)):
        first = await site.arrive("leaver", "one", "one")
        await site.fed(0, 60, first)
        address = await site.address(first)
        await site.leave(first)
        heirs = await _heirs(site, address)
        await site.fed(0, 60, *heirs)
        await site.leave(*heirs)


async def address_reused_unheard(site: Site, times: float) -> None:
    """The same while the watch is dead: what the agent knows of the address is of before."""
    for _ in range(int(times)):
        first = await site.arrive("leaver", "one", "one")
        await site.fed(0, 60, first)
        address = await site.address(first)
        async with site.rules(await _silence(site.agent())):
            await site.leave(first)
            heirs = await _heirs(site, address)
            await site.fed(0, 90, *heirs)
        await site.leave(*heirs)


async def same_name_swapped(site: Site, times: float) -> None:
    """Two pods of one name in two namespaces come anew, each with the other's identity."""
    for _ in range(int(times)):
        here, there = site.guest("web-0"), site.guest("web-0", ELSEWHERE)
        names = {one.properties.client_id: name for name, one in site.identities.items()}
        one, other = names[here.right], names[there.right]
        await site.leave(here, there)
        here = await site.arrive("web-0", other, other)
        there = await site.arrive("web-0", one, one, namespace=ELSEWHERE)
        await site.fed(0, 60, here, there)


async def stateful_again(site: Site, times: float) -> None:
    """A pod comes again under its own name, with another identity each time."""
    pod = await site.arrive("stateful-0", "one", "one")
    for number in range(int(times)):
        await site.fed(0, 60, pod)
        await site.leave(pod)
        name = ("next", "one")[number % 2]
        pod = await site.arrive("stateful-0", name, name)
    await site.fed(0, 60, pod)
    await site.leave(pod)


# -- the node's packet filter ------------------------------------------------------------------------------------


async def foreign_rules(site: Site, times: float) -> None:
    """Somebody lets everything through in front of the guard's rules, or in front of the redirect's."""
    chains = ("inet podidentity_guard guard", "inet podidentity to_agent")
    for number in range(int(times)):
        await site.nft(f"insert rule {chains[number % 2]} accept\n")
        await until(lambda: _repaired(site), "the rule is gone again", 30)


async def _repaired(site: Site) -> bool:
    rules = await site.run("nft", "list", "ruleset")
    ours = rules.count("dnat ip to") == 2 and "inet podidentity_guard" in rules
    return ours and not re.search(r"^\t\taccept$", rules, re.MULTILINE)


async def deleted(site: Site, times: float) -> None:
    """Somebody deletes the table of the redirect, or that of the guard."""
    for number in range(int(times)):
        await site.nft(f"delete table inet podidentity{('', '_guard')[number % 2]}\n")
        await until(lambda: _repaired(site), "the table is there again", 30)


async def lock_held(site: Site, hold: float) -> None:
    """iptables: somebody holds the lock of all its programs while the redirect is emptied; the guard stands alone."""
    daemon = await site.stage.call("GET", NMI)
    flags = list(daemon["spec"]["template"]["spec"]["containers"][0]["args"])
    await site.update(args=[*flags, "--datapath=iptables-legacy"])
    await site.nft("flush ruleset\n")
    node = site.stage.lab.layout.nodes / site.stage.lab.spec.nodes[0].name
    with (node / "run/xtables.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await site.run("iptables-legacy", "-t", "nat", "-F", "aad-metadata")
        await asyncio.sleep(hold)
    await until(lambda: _redirected(site), "the redirect is there again", 60)
    await site.update(args=flags)
    for table in ("nat", "raw", "filter"):
        await site.run("iptables-legacy", "-t", table, "-F")
        await site.run("iptables-legacy", "-t", table, "-X")


async def _redirected(site: Site) -> bool:
    return "DNAT" in await site.run("iptables-legacy", "-t", "nat", "-S", "aad-metadata")


async def untracked(site: Site, hold: float) -> None:
    """Connections to the metadata address are not tracked, so that no redirect works: pods are refused."""
    rule = f"chain raw {{ type filter hook prerouting priority -300; {METADATA} notrack\n }}"
    async with site.rules(rule):
        await asyncio.sleep(hold)


async def external_address(site: Site, hold: float) -> None:
    """The rules that kube-proxy would write for a Service that has the metadata address as external IP.

    An API server of today refuses such a Service; an older one does not.
    """
    thief = await site.address(site.guest("plain"))
    chains = "\n".join(
        f"chain {hook} {{ type nat hook {hook} priority -100; {METADATA} dnat to {thief}:80\n }}"
        for hook in ("prerouting", "output")
    )
    async with site.rules(chains, table="ip faults"):
        await asyncio.sleep(hold)


FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault("none", nothing, 10, 1),
        Fault("rolling update with surge", updated, real=True, gentle=True),
        Fault("kill -9", killed, real=True),
        Fault("SIGTERM", told_to_end),
        Fault("SIGSTOP, SIGCONT", frozen, 30, 2),
        Fault("API server gone", api_gone, 60, 4),
        Fault("dead watch (packets dropped)", dead_watch),
        Fault("410 after a cut and a restart of the API", history_gone, 10, 3),
        Fault("IMDS answers 429", imds(imds_status=429, imds_retry_after=2), 20, 1),
        Fault("IMDS answers 410", imds(imds_status=410), 20, 1),
        Fault("IMDS answers 500", imds(imds_status=500), 20, 1),
        Fault("IMDS hangs", imds(rules=[_HANGS]), 20, 1),
        Fault("IMDS answers garbage", imds(rules=[_GARBAGE]), 20, 1),
        Fault("IMDS takes 3 s", imds(imds_delay=3), 20, 1),
        Fault("address reused by another pod", address_reused, 5, 1, real=True),
        Fault("address reused while the watch is dead", address_reused_unheard, 3, 1),
        Fault("two pods of one name change identities", same_name_swapped, 5, 1),
        Fault("StatefulSet's pod comes again", stateful_again, 6, 1),
        Fault("foreign rules inserted", foreign_rules, 10, 2),
        Fault("a table deleted", deleted, 10, 2),
        Fault("xtables lock held, redirect emptied", lock_held, 20, 2),
        Fault("NOTRACK", untracked, 10, 1),
        Fault("Service with the metadata address", external_address, 10, 1),
    )
}


async def played(site: Site, fault: Fault) -> None:
    """Play a fault and enter it into the table; fails for a wrong token, a leak, or too late a recovery."""
    await site.settled()
    start, leaked, known = time.time(), await site.at_imds(), tuple(site.guests)
    try:
        await fault.play(site, fault.long if LONG else fault.short)
        took = await site.fed(time.time(), fault.within)
    except BaseException:
        site.forget(known)
        raise
    await asyncio.sleep(0.5)
    row = await site.conclude(fault.name, start, took, leaked)
    assert not (fault.gentle and row.verdict.other), "requests that failed"
