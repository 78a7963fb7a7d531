"""What a pod gets of its node's agent while another pod of the node attacks it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster import new_lab, restart_nmi, run_json, start_pod
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import IDENTITY
from report import Report
from tokens import IMDS, TOKEN_PATH

HERE = Path(__file__).parent
KINDS: Mapping[str, str] = {
    "nothing": "nobody attacks",
    "idle": "5,000 connections kept idle",
    "requests": "5,000 requests at once, again and again",
    "pipelined": "256 connections, 8 requests ahead on each",
    "strangers": "5,000 requests for an identity it has not",
    "churn": "a new connection for each request, 64 at a time",
    "bombs": "headers of 60 kB, 64 at a time",
    "drips": "5,000 headers that drip",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Each attack lasts ``seconds``."""

    kinds: tuple[str, ...] = tuple(KINDS)
    seconds: float = 5.0
    limits: tuple[str, ...] = ("no", "yes")


async def measure(quick: bool) -> Report:
    """Measure."""
    plan = Plan(("nothing", "requests"), 1.0, ("yes",)) if quick else Plan()
    async with new_lab() as walkthrough:
        lab = walkthrough.lab
        await walkthrough.roles()
        await walkthrough.infrastructure()
        await walkthrough.identity_and_binding()
        for name in ("load", "hostile"):
            await start_pod(lab, name, "import signal; signal.pause()", label=f"{IDENTITY}-binding")
        rows = []
        for limits in plan.limits:
            if limits == "no":
                await restart_nmi(lab, "--pod-connections=0", "--pod-connection-rate=0")
            elif len(plan.limits) > 1:
                await restart_nmi(lab)
            await _neighbour(lab, 0.2, fresh=False)
            rows += [await _row(lab, kind, limits, plan.seconds) for kind in plan.kinds]
    return Report(
        title="hostile: one pod attacks, its neighbour asks",
        compares="a neighbour that asks for its cached token, on one kept connection and then on a new one for each "
        "request (100 a second at most), while a pod of the same node attacks nmi; without and with the limits on the "
        "connections of one pod; the bar is a p99 of 100 ms",
        columns=("attack", "limits", "tokens/s", "p99 ms", "new/s", "new p99 ms", "attacker opened", "its answers"),
        rows=rows,
        bound="the loop of nmi and, on a small machine, the cores that attacker, neighbour and nmi share",
    )


async def _row(lab: RunningLab, kind: str, limits: str, seconds: float) -> tuple[str, ...]:
    """One attack: the neighbour starts when it has begun."""
    attack = asyncio.create_task(_attack(lab, kind, 2 * seconds + 3))
    await asyncio.sleep(1)
    kept = await _neighbour(lab, seconds, fresh=False)
    fresh = await _neighbour(lab, seconds, fresh=True)
    found = await attack
    figures = [f"{one[key]:,.1f}" if one else "none" for one in (kept, fresh) for key in ("rate", "p99")]
    return (KINDS[kind], limits, *figures, f"{found['opened']:,.0f}", f"{found['answers']:,.0f}")


async def _attack(lab: RunningLab, kind: str, seconds: float) -> Mapping[str, float]:
    source = (HERE / "attacks.py").read_text()
    return await run_json(lab, "hostile", sys.executable, "-c", source, kind, str(seconds))


async def _neighbour(lab: RunningLab, seconds: float, *, fresh: bool) -> Mapping[str, float]:
    """One run of the load generator; empty when it did not get through. No answer may be a refusal."""
    plan = {"host": IMDS, "port": 80, "path": TOKEN_PATH, "headers": {"Metadata": "true"}, "fresh": fresh}
    more = {"connections": 1, "seconds": seconds, "pause": 0.01}
    source = (HERE / "load_generator.py").read_text()
    try:
        found = await run_json(lab, "load", sys.executable, "-c", source, json.dumps({**plan, **more}))
    except RuntimeError:
        return {}
    if found["refused"]:
        raise RuntimeError(f"{found['refused']:.0f} of {found['requests']:.0f} answers were no token")
    return {**found, "rate": found["requests"] / found["seconds"]}
