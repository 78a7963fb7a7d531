"""Least privilege on the real API server: every right is needed, none is left over, and a missing one is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.deploy import original
from tests.deploy.conftest import Cluster
from tests.deploy.mic_stage import MicStage
from tests.deploy.nmi_stage import NmiStage
from tests.deploy.rights import (
    REVIEWING,
    Right,
    Row,
    account,
    all_rights,
    expanded,
    forget_accounts,
    grant,
    rights,
    rows,
)
from tests.deploy.stages import NODE, NODE_OF_POOL
from tests.real_server import RealServer

from podidentity.kube.client import KubeClient
from podidentity.nmi.rights import WIDE

STOPS = {
    ("mic", "create", "events"): "told",
    ("mic", "patch", "events"): "told again",
    ("mic", "create", "azureassignedidentities"): "recorded",
    ("mic", "patch", "azureassignedidentities"): "assigned",
    ("mic", "update", "azureassignedidentities"): "updated",
    ("mic", "delete", "azureassignedidentities"): "removed",
    ("mic", "get", "azureassignedidentities"): "",
    ("mic", "update", "endpoints"): "",
    ("mic", "update", "leases"): "",
    ("nmi", "get", "pods"): "other pod",
    ("nmi", "get", "secrets"): "service principal",
    (REVIEWING, "create", "tokenreviews"): "other pod",
}
"""The first step of the story that is not reached without the right: "ready" where none is named; "": all are."""
LOCKS = {"endpoints", "leases"}
MENDED = {
    ("mic", "watch", "pods"),
    ("mic", "update", "configmaps"),
    ("mic", "get", "endpoints"),
    ("mic", "create", "azureassignedidentities"),
    ("mic", "delete", "azureassignedidentities"),
    ("nmi", "list", "azureassignedidentities"),
    ("nmi", "get", "pods"),
    ("nmi", "get", "secrets"),
}
"""One of each way in which a component tries again."""


@pytest.fixture(scope="module")
def kinds(deploy_server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The control plane with our CRDs and a node of a scale set."""
    cluster = Cluster(deploy_server, tmp_path_factory.mktemp("rights"))
    cluster.apply_kinds("CustomResourceDefinition")
    cluster.apply_objects(NODE_OF_POOL)
    yield deploy_server
    cluster.kubectl("delete", "node", NODE)
    cluster.kubectl("delete", "namespace", "-l", "rights=tried", "--wait=false")
    cluster.clean()


@pytest.fixture
async def admin(kinds: RealServer) -> AsyncIterator[KubeClient]:
    """An administrator."""
    async with KubeClient(kinds.settings(), user_agent="tests") as client:
        yield client


async def stage(admin: KubeClient, who: str, namespace: str, granted: list[Right]) -> MicStage | NmiStage:
    """The component as an account with these rights."""
    if namespace.startswith("rights"):
        body = {"metadata": {"name": namespace, "labels": {"rights": "tried"}}}
        await admin.raw("POST", "/api/v1/namespaces", body=body)
    settings = await account(admin, who, namespace, granted)
    if who == "mic":
        return MicStage(admin, settings, namespace)
    return NmiStage(admin, settings, namespace, managed="managed" in who, reviewing=who == REVIEWING)


def test_the_table_is_the_roles() -> None:
    """The docs list every right of the shipped roles, and nothing else."""
    granted = {(who, right.verb, right.resource) for who in ("mic", "nmi") for right in rights(who)}
    standard = {(right.verb, right.resource) for right in rights("nmi")}
    managed = {(right.verb, right.resource) for right in rights("nmi (managed)")}
    granted |= {("nmi (managed)", *right) for right in managed - standard}
    granted |= {(REVIEWING, right.verb, right.resource) for right in rights(REVIEWING)}
    table = [(row.who, row.verb, row.resource) for row in rows()]
    assert sorted(table) == sorted(granted)
    assert {resource for _, resource in standard - managed} == {"azureassignedidentities"}


@pytest.mark.parametrize("row", rows(), ids=str)
async def test_without_one_right(admin: KubeClient, row: Row) -> None:
    """A component that lacks one right says which, stands still only where it needs it, and never ends."""
    namespace = f"rights-{row}".lower().replace("(", "").replace(")", "")
    granted = [right for right in all_rights(row.who) if (right.verb, right.resource) != (row.verb, row.resource)]
    played = await stage(admin, row.who, namespace, granted)
    stop = STOPS.get((row.who, row.verb, row.resource), "ready")
    before = set(played.STEPS[: played.STEPS.index(stop)] if stop else played.STEPS)
    await played.prepare()
    try:
        async with played.started():
            story = asyncio.create_task(played.play())
            async with played.within(30):
                while not (row.said_in(played.log) and before <= set(played.reached)):  # noqa: ASYNC110 - a log tells nobody
                    await asyncio.sleep(0.02)
                if stop == "ready" or row.resource in LOCKS:
                    await played.step("not ready", lambda: not played.ready)
                    await played.step("working", lambda: played.working == (row.verb == "watch"))
            story.cancel()
            await asyncio.gather(story, return_exceptions=True)
        assert row.verb == "watch" or stop not in played.reached, played.log
        assert row.resource != "secrets" or WIDE not in played.log
        assert f"ServiceAccount {namespace}/aad-pod-id-{row.who[:3]}-service-account" in played.log
    finally:
        await played.clean()
        await forget_accounts(admin, namespace)


@pytest.mark.parametrize("row", [row for row in rows() if (row.who, row.verb, row.resource) in MENDED], ids=str)
async def test_it_goes_on_when_the_right_is_there(admin: KubeClient, row: Row) -> None:
    """A right that is granted while the component runs is taken up by itself: nothing has to be started anew."""
    namespace = f"rights-mended-{row}"
    granted = [right for right in all_rights(row.who) if (right.verb, right.resource) != (row.verb, row.resource)]
    played = await stage(admin, row.who, namespace, granted)
    await played.prepare()
    try:
        async with played.started(), played.within(40):
            story = asyncio.create_task(played.play())
            await played.step("said", lambda: row.said_in(played.log))
            await grant(admin, row.who, namespace, all_rights(row.who))
            await story
    finally:
        await played.clean()
        await forget_accounts(admin, namespace)


@pytest.mark.parametrize(
    ("who", "namespace"),
    [("mic", "default"), ("nmi", "default"), ("nmi (managed)", "kube-system"), (REVIEWING, "default")],
)
async def test_every_right_is_used(admin: KubeClient, kinds: RealServer, who: str, namespace: str) -> None:
    """What the API server's audit log says a component did is what its role grants, no right more."""
    audit = kinds.folder / "audit.log"
    before = len(audit.read_text().splitlines())
    played = await stage(admin, who, namespace, all_rights(who))
    await played.prepare()
    try:
        async with played.started(), played.within(30):
            await played.play()
            if who != "mic":
                await played.step("warned", lambda: WIDE in played.log)
        log = played.log
        used = _used(audit, before, namespace)
        assert used == {(right.group, right.resource, right.verb) for right in all_rights(who)}, log
        assert "forbidden" not in log
        assert "may not" not in log
    finally:
        await played.clean()
        await forget_accounts(admin, namespace)


@pytest.mark.parametrize("who", ["mic", "nmi", "nmi (managed)"])
async def test_our_images_with_the_originals_roles(admin: KubeClient, who: str) -> None:
    """With the original's roles nmi does all it does; mic says that it lacks the Lease, and goes on when ours come."""
    namespace = f"rights-original-{who}".replace(" ", "-").replace("(", "").replace(")", "")
    roles = {"mic": original.mic_role(), "nmi": original.nmi_role(), "nmi (managed)": original.nmi_role(managed=True)}
    played = await stage(admin, who, namespace, expanded(roles[who]["rules"]))
    await played.prepare()
    try:
        async with played.started(), played.within(30):
            if who == "mic":
                await played.step(
                    "said", lambda: "may not get leases aad-pod-identity-mic in the namespace" in played.log
                )
                assert not played.ready
                await grant(admin, who, namespace, rights(who))
            await played.play()
    finally:
        await played.clean()
        await forget_accounts(admin, namespace)


def _used(audit: Path, before: int, namespace: str) -> set[tuple[str, str, str]]:
    """Group, resource and verb of every request since line ``before``, but for the question about own rights."""
    used = set()
    for line in audit.read_text().splitlines()[before:]:
        entry = json.loads(line)
        ref = entry.get("objectRef")
        if ref is None or ref["resource"] == "selfsubjectaccessreviews":
            continue
        if not entry["user"]["username"].startswith(f"system:serviceaccount:{namespace}:aad-pod-id"):
            continue
        assert entry.get("responseStatus", {}).get("code", 200) not in {401, 403}, entry
        used.add((ref.get("apiGroup", ""), ref["resource"], entry["verb"]))
    return used
