"""How soon requests that came before their pod's identity are answered once it is assigned."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass

from agent import declared_identity
from cluster import new_lab, start_pod
from podidentity.api.constants import STATE_ASSIGNED
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES
from podidentity.lab.running import RunningLab
from report import Report, quantile
from tokens import IMDS, TOKEN_PATH

LATE = "late"
ASKERS = """
import json, selectors, socket, sys, time
plan = json.loads(sys.argv[1])
request = f"GET {plan['path']} HTTP/1.1\\r\\nHost: {plan['host']}\\r\\nMetadata: true\\r\\n\\r\\n".encode()
poll, answered, refused = selectors.DefaultSelector(), [], 0
for _ in range(plan["connections"]):
    one = socket.create_connection((plan["host"], 80))
    one.sendall(request)
    poll.register(one, selectors.EVENT_READ)
sent = time.time()
while poll.get_map():
    for key, _ in poll.select(120):
        answered.append(time.time())
        refused += not key.fileobj.recv(65536).startswith(b"HTTP/1.1 200")
        poll.unregister(key.fileobj)
print(json.dumps({"sent": sent, "answered": answered, "refused": refused}))
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """``pods`` hold ``connections`` requests each, ``settle`` seconds before their identity is declared."""

    pods: int = 8
    connections: int = 25
    settle: float = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Seconds since the epoch: the last request of a pod was sent, its requests were answered."""

    sent: float
    answered: tuple[float, ...]


async def measure(quick: bool) -> Report:
    """Measure."""
    plan = Plan(pods=2, connections=3, settle=2.0) if quick else Plan()
    async with new_lab() as walkthrough:
        lab = walkthrough.lab
        await walkthrough.roles()
        await walkthrough.infrastructure()
        await walkthrough.identity_and_binding()
        names = [f"{LATE}-{number}" for number in range(plan.pods)]
        for name in names:
            await start_pod(lab, name, "import signal; signal.pause()", label=f"{LATE}-binding")
        assigned: dict[str, float] = {}
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(lab, assigned))
            asking = [tasks.create_task(_ask(lab, name, plan)) for name in names]
            await asyncio.sleep(plan.settle)
            await declared_identity(lab, LATE)
            lags = [lag for name, task in zip(names, asking, strict=True) for lag in _lags(await task, assigned[name])]
            watching.cancel()
    lags.sort()
    return Report(
        title="waiting: requests that came before their identity",
        compares="the moment a client of the API sees a pod's record become Assigned with the moments the pod's held "
        "requests are answered; the bar is 100 ms with 200 waiting",
        columns=("held requests", "pods", "first ms", "p50 ms", "last ms"),
        rows=[(f"{len(lags)}", f"{plan.pods}", *(f"{ms:.1f}" for ms in (lags[0], quantile(lags, 0.5), lags[-1])))],
        bound="the identity's first token, one question to the metadata service, then writing the answers. Less than "
        "nothing: nmi saw the record before the client did",
    )


async def _watch(lab: RunningLab, assigned: dict[str, float]) -> None:
    """Note when a second client sees each pod's record Assigned, by pod, until cancelled."""
    client = lab.cluster.client
    version = (await client.list(AZURE_ASSIGNED_IDENTITIES)).resource_version
    async for event in client.watch(AZURE_ASSIGNED_IDENTITIES, resource_version=version, timeout=300):
        record = event.object
        if record is not None and record.status.status == STATE_ASSIGNED:
            assigned.setdefault(record.spec.pod, time.time())


async def _ask(lab: RunningLab, pod: str, plan: Plan) -> Asked:
    """The askers' report from a pod; no answer may be a refusal."""
    wish = json.dumps({"host": IMDS, "path": TOKEN_PATH, "connections": plan.connections})
    answer = await lab.cluster.run(pod, sys.executable, "-c", ASKERS, wish)
    if answer.code:
        raise RuntimeError(f"the askers failed: {answer.text.strip()}")
    found = json.loads(answer.text)
    if found["refused"]:
        raise RuntimeError(f"{found['refused']} of {plan.connections} answers were no token")
    return Asked(found["sent"], tuple(found["answered"]))


def _lags(asked: Asked, assigned: float) -> list[float]:
    """Milliseconds from Assigned to each answer; all requests must have been there before."""
    if asked.sent >= assigned:
        raise RuntimeError("a pod's requests came after its identity: nothing was waiting")
    return [1000 * (answered - assigned) for answered in asked.answered]
