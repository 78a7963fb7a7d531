"""Token requests a second through nmi, from a pod, against a server beside it that decides nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import new_lab, run_json, start_pod
from limits import can_limit, cpu_limit
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import IDENTITY
from processes import cpu_times, descendants
from report import Report, ratio

HERE = Path(__file__).parent
IMDS = "169.254.169.254"
TOKEN_PATH = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
STATIC_PORT = 8700
_HEAD = ("nmi/s", "p50 ms", "p99 ms", "CPU us")
HEAD = ("/s", " p50 ms", " p99 ms", " CPU us")
LOADER, STATIC = "load", "static"
SHIPPED_LIMIT = 200
"""Millicores: ``resources.limits.cpu`` of the shipped manifests."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``connections``: each is measured ``rounds`` times for ``seconds``, nmi and the static server in turn."""

    connections: tuple[int, ...] = (1, 16, 64)
    rounds: int = 3
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: requests a second, latencies in ms, CPU microseconds of the server for each request."""

    rate: float
    p50: float
    p99: float
    user: float
    system: float
    size: int


async def measure(quick: bool) -> Report:
    """Measure."""
    plan = Plan(connections=(1, 4), rounds=1, seconds=0.5) if quick else Plan()
    async with new_lab() as walkthrough:
        lab = walkthrough.lab
        await walkthrough.roles()
        await walkthrough.infrastructure()
        await walkthrough.identity_and_binding()
        await start_pod(lab, LOADER, "import signal; signal.pause()", label=f"{IDENTITY}-binding")
        size = (await _round(lab, _imds(1, 0.2), _pid("podidentity", "nmi"))).size
        address = lab.spec.nodes[0].address
        server = (HERE / "static_server.py").read_text()
        await start_pod(lab, STATIC, server, address, str(STATIC_PORT), str(size), host_network=True)
        servers = {"nmi": _pid("podidentity", "nmi"), "static": _pid(server)}
        rows = [_row(f"{count}", *await _rounds(lab, plan, count, servers)) for count in plan.connections]
        if can_limit():
            with cpu_limit(tuple(servers.values()), SHIPPED_LIMIT):
                rows += [
                    _row(f"{count} at {SHIPPED_LIMIT}m", *await _rounds(lab, plan, count, servers))
                    for count in plan.connections
                ]
    return Report(
        title="tokens: cached tokens through nmi, from a pod",
        compares="nmi on its real path (pod, redirect, source check, authorisation, log and metrics of each request) "
        f"with a constant answer of the same {size} bytes from httptools and uvloop on the same node; same load "
        f"generator, in turns, median of {plan.rounds}; at {SHIPPED_LIMIT}m: both under the CPU limit of the shipped "
        f"manifests{'' if can_limit() else ' (not measured: this machine gives no CPU quota to a control group)'}",
        columns=("connections", *(f"nmi{name}" for name in HEAD), *(f"static{name}" for name in HEAD), "ratio"),
        rows=rows,
        bound="nmi's one core: CPU us is what its process spends on a request (user+system): sockets, the source "
        "check and address translation of each packet are system, parsing and deciding are user. At one connection the "
        "time of a request is that plus the load generator's and two wake-ups",
    )


async def _rounds(
    lab: RunningLab, plan: Plan, connections: int, servers: Mapping[str, int]
) -> tuple[list[Round], list[Round]]:
    """The measurements of nmi and of the static server, taken in turns."""
    address = lab.spec.nodes[0].address
    nmi, static = [], []
    for _ in range(plan.rounds):
        nmi.append(await _round(lab, _imds(connections, plan.seconds), servers["nmi"]))
        static.append(await _round(lab, _static(address, connections, plan.seconds), servers["static"]))
    return nmi, static


def _plan(host: str, port: int, path: str, connections: int, seconds: float) -> str:
    plan = {"host": host, "port": port, "path": path, "headers": {"Metadata": "true"}}
    return json.dumps({**plan, "connections": connections, "seconds": seconds})


def _imds(connections: int, seconds: float) -> str:
    return _plan(IMDS, 80, TOKEN_PATH, connections, seconds)


def _static(address: str, connections: int, seconds: float) -> str:
    return _plan(address, STATIC_PORT, TOKEN_PATH, connections, seconds)


async def _round(lab: RunningLab, plan: str, server: int) -> Round:
    """One run of the load generator in its pod."""
    program = (HERE / "load_generator.py").read_text()
    before = cpu_times(server)
    found = await run_json(lab, LOADER, sys.executable, "-c", program, plan)
    after = cpu_times(server)
    if found["refused"]:
        raise RuntimeError(f"{found['refused']:.0f} of {found['requests']:.0f} answers were no token")
    served = found["warm"] + found["requests"]
    user, system = ((now - then) / served * 1e6 for now, then in zip(after, before, strict=True))
    rate = found["requests"] / found["seconds"]
    return Round(rate, found["p50"], found["p99"], user, system, int(found["bytes"]))


def _pid(*words: str) -> int:
    """The process of the lab whose command line holds these words."""
    found = [usage.pid for usage in descendants(os.getpid()) if set(words) <= set(usage.command)]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} processes of the lab run {words[-1][:40]}")
    return found[0]


def _row(connections: str, nmi: Sequence[Round], static: Sequence[Round]) -> tuple[str, ...]:
    ours, theirs = _median(nmi), _median(static)
    return (connections, *_shown(ours), *_shown(theirs), ratio(ours.rate, theirs.rate))


def _median(rounds: Sequence[Round]) -> Round:
    """The round whose rate is the middle one."""
    return sorted(rounds, key=lambda one: one.rate)[len(rounds) // 2]


def _shown(one: Round) -> tuple[str, ...]:
    used = f"{one.user + one.system:.0f} ({one.user:.0f}+{one.system:.0f})"
    return f"{one.rate:,.0f}", f"{one.p50:.3f}", f"{one.p99:.3f}", used
