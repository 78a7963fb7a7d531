"""docs/reference/clients.md: unmodified clients in pods, at the real address, whatever happens to the agent."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml
from tests.e2e.clients.asking import AZ, CLIENTS, LABEL, PLAIN, PYTHON, SECRET, Asking, Client, Report, away
from tests.e2e.conftest import new_lab
from tests.e2e.processes import component, tree
from tests.e2e.stage import DEFAULT, Stage, is_ready, name_of, until
from tests.real_server import kubernetes_programs

from podidentity.lab.node.kits import KITS, installed

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/reference/clients.md"
ROW: Final = re.compile(r"^\| `([a-z-]+)` \|(.*)\|$", re.MULTILINE)
NMI: Final = "/apis/apps/v1/namespaces/default/daemonsets/nmi"
LOOPING: Final = tuple(
    replace(one, ways=one.ways[:1], steps=("login", "secret")) if one is AZ else one for one in CLIENTS
)
"""az starts slowly: while something happens it asks in one way."""
TOKENS: Final = tuple(replace(one, steps=("login", "token")) if one.name == AZ.name else one for one in LOOPING)


def page() -> dict[str, dict[str, list[str]]]:
    """What the page says each client makes of each condition: outcomes by client, by condition."""
    columns, *rows = [[cell.strip() for cell in rest.split("|")] for _, rest in ROW.findall(PAGE.read_text())]
    names = [name for name, _ in ROW.findall(PAGE.read_text())][1:]
    clients = [re.sub(r"[` ]", "", cell) for cell in columns]
    words = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return {name: dict(zip(clients, row, strict=True)) for name, row in zip(names, words, strict=True)}


def check(condition: str, reports: Mapping[str, Report], gone: float = 0) -> None:
    """Each client's outcomes are those of the page; ``gone`` (seconds) excuses who waits for less than that."""
    lines, wrong = [], {}
    for client in LOOPING:
        if client.name not in reports:
            continue
        report, said = reports[client.name], page()[condition][client.name]
        outcomes = {ask.outcome for ask in report}
        lines.append(
            f"{condition} {client.name}: {len(report)} asks, {max(ask.seconds for ask in report):.1f} s, {outcomes}"
        )
        late = client.patience and gone > client.patience
        if not late and not outcomes <= set(said):
            wrong[client.name] = [(ask.way, ask.owner) for ask in report if ask.outcome not in said][:5]
    sys.stdout.write("\n".join(["", *lines, f"{condition}: away for {gone:.1f} s", ""]))
    assert wrong == {}


async def furnished(stage: Stage, *clients: Client) -> Asking:
    """Install everything, two identities that pods labelled ``clients`` get, and a pod for each client."""
    await stage.lift_limits()
    await stage.assign_roles()
    await stage.install()
    first, second = [await stage.identity(name, selector=LABEL) for name in ("first", "second")]
    vault = await stage.vault(first, second)
    value = secrets.token_urlsafe(12)
    await stage.lab.azure.set_secret(vault, SECRET, value)
    asking = Asking(stage, first, second, value)
    await asking.pods(*clients)
    await asking.assigned()
    return asking


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asking() -> AsyncIterator[Asking]:
    """A lab of one node, and every client in a pod."""
    for kit in KITS:
        if kit not in installed(os.environ):
            pytest.skip(f"{kit} is not there; make {kit} installs it")
    async with new_lab(nodes=1) as lab:
        yield await furnished(Stage(lab), *CLIENTS)


async def all_once(asking: Asking, clients: tuple[Client, ...], resource: str) -> dict[str, Report]:
    """All clients ask once, at the same time."""
    found = await asyncio.gather(*(asking.once(client, resource) for client in clients))
    return dict(zip([client.name for client in clients], found, strict=True))


def kill_agent(asking: Asking) -> None:
    """Kill -9 of the node's agent."""
    root = str(asking.stage.lab.layout.root)
    world = next(one for one in tree(os.getpid()) if root in one.words)
    (process,) = component(world.pid, "nmi")
    os.kill(process.pid, signal.SIGKILL)


async def patch_agent(asking: Asking, spec: Mapping[str, Any], pods: int = 1) -> None:
    """Change nmi's DaemonSet, and wait until ``pods`` pods of the newest generation, and no other, are ready."""
    before = {name_of(pod) for pod in await agents(asking)}
    await asking.stage.call("PATCH", NMI, {"spec": spec}, content_type="application/strategic-merge-patch+json")

    async def done() -> bool:
        found = await agents(asking)
        return len(found) == pods and all(is_ready(pod) and name_of(pod) not in before for pod in found)

    await until(done, "the DaemonSet is up to date", 120)


async def agents(asking: Asking) -> list[Any]:
    """The pods of nmi."""
    found = await asking.stage.lab.cluster.objects(f"{DEFAULT}/pods")
    return [pod for pod in found if name_of(pod).startswith("nmi-")]


async def restart_agent(asking: Asking) -> None:
    """``kubectl rollout restart daemonset nmi``, followed to its end."""
    stamp = {"kubectl.kubernetes.io/restartedAt": secrets.token_hex(4)}
    await patch_agent(asking, {"template": {"metadata": {"annotations": stamp}}})


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
async def test_every_way_gets_its_own_identity(asking: Asking, client: Client) -> None:
    """Client id, object id and resource id find the pod's second identity; who names none gets the first."""
    report = await asking.once(client)
    assert {ask.way: ask.owner for ask in report} == {way: asking.owner(way) for way in client.ways}
    check("undisturbed", {client.name: report})
    if client is AZ:
        assert {ask.secret for ask in report} == {asking.secret}


async def test_agent_killed(asking: Asking) -> None:
    """Kill -9 amid requests: SDKs try again until the kubelet has started the agent again."""
    async with asking.again_and_again(*LOOPING) as reports:
        kill_agent(asking)
    begun, ended = away(reports[PLAIN.name])
    assert ended > begun
    check("killed", reports, ended - begun)
    refused = {name: [one for one in report if one.outcome != "token"] for name, report in reports.items()}
    assert [one for report in refused.values() for one in report if one.ended < begun - 1 or one.begun > ended] == []


async def test_agent_gone(asking: Asking) -> None:
    """No agent on the node: nobody gets a token, and each client says so in its own time."""
    await patch_agent(asking, {"template": {"spec": {"nodeSelector": {"no": "node"}}}}, pods=0)
    reports = await all_once(asking, CLIENTS, "https://vault.azure.net")
    await patch_agent(asking, {"template": {"spec": {"nodeSelector": None}}})
    check("gone", reports)


async def test_agent_updated(asking: Asking) -> None:
    """An ordinary update ends the old agent first: SDKs carry it."""
    async with asking.again_and_again(*LOOPING) as reports:
        await restart_agent(asking)
    begun, ended = away(reports[PLAIN.name])
    check("updated", reports, ended - begun)


def throttle(resource: str, seconds: int, times: int) -> dict[str, Any]:
    """The metadata service's 429 for tokens of a resource that nobody has asked for yet."""
    headers = {"Retry-After": str(seconds)}
    return {"rules": [{"service": "imds", "path": resource, "status": 429, "headers": headers, "times": times}]}


async def test_metadata_service_throttles_briefly(asking: Asking) -> None:
    """429 with Retry-After: 3, once: the agent waits itself, no client hears of it."""
    await asking.stage.lab.azure.call("PUT", "/faults", throttle("storage.azure.com", 3, 1))
    check("throttled", await all_once(asking, TOKENS, "https://storage.azure.com"))


async def test_metadata_service_throttles_for_long(asking: Asking) -> None:
    """429 with Retry-After: 10 is handed on at once: SDKs come back after that time, the others say so."""
    await asking.stage.lab.azure.call("PUT", "/faults", throttle("database.windows.net", 10, 1))
    check("throttled-long", await all_once(asking, TOKENS, "https://database.windows.net"))


async def test_agent_updated_with_surge(asking: Asking) -> None:
    """With surge the new agent serves before the old one ends: not one request fails, not even without retries.

    So it is with the update that brings surge, and with the one after it.
    """
    patch = yaml.safe_load((ROOT / "deploy/nmi-surge-patch.yaml").read_text())
    patch["spec"]["template"]["spec"]["containers"][0]["args"].append("--allow-network-plugin-kubenet")
    async with asking.again_and_again(*LOOPING) as reports:
        await patch_agent(asking, patch["spec"])
    check("surge", reports)
    async with asking.again_and_again(*LOOPING) as reports:
        await restart_agent(asking)
    check("surge", reports)


async def test_on_the_real_server() -> None:
    """The same, killed agent included, where a real API server keeps the pods: azure-identity carries it."""
    kubernetes_programs("etcd", "kube-apiserver", "kube-controller-manager")
    async with new_lab(nodes=1, api_server="real") as lab:
        asking = await furnished(Stage(lab), PLAIN, PYTHON)
        report = await asking.once(PYTHON)
        assert {ask.way: ask.owner for ask in report} == {way: asking.owner(way) for way in PYTHON.ways}
        async with asking.again_and_again(PLAIN, PYTHON) as reports:
            kill_agent(asking)
        begun, ended = away(reports[PLAIN.name])
        check("killed", reports, ended - begun)
