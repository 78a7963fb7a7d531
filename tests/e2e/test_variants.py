"""The same walkthrough with other nodes' networks, without kubectl, and as `lab demo` on either API server."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from tests.e2e.conftest import new_lab
from tests.e2e.processes import run
from tests.real_server import kubernetes_programs

from podidentity.lab.cluster import Cluster
from podidentity.lab.scenarios.walkthrough import Walkthrough
from podidentity.lab.story import Story

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ORDINARY_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
"""Whoever runs the test, the command under it has no capability and is not root."""


async def test_routed_pods() -> None:
    """Pods that are routed, as with Azure CNI, get what pods behind a bridge get, and are kept from the same."""
    async with new_lab(network="routed", nodes=3, kubectl=Cluster.find_kubectl()) as lab:
        assert len(lab.spec.nodes) == 3
        walkthrough = Walkthrough(lab, Story(None))
        await walkthrough.play()
    broken = [(claim, evidence) for claim, holds, evidence in walkthrough.story.claims if not holds]
    assert not broken
    assert walkthrough.story.facts["imdsRequestsFromPods"] == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("server", "under"), [("embedded", ()), ("real", ORDINARY_USER)])
async def test_a_demo_without_kubectl_as_json(server: str, under: Sequence[str]) -> None:
    """`lab demo --no-kubectl --json` prints one JSON document and nothing else, with every claim and its evidence.

    The one on the real API server is an ordinary user's.
    """
    if server == "real":
        kubernetes_programs("kube-apiserver")
    options = ("--no-kubectl", "--json", "--nodes=1", f"--api-server={server}")
    code, output, errors = await run("lab", "demo", *options, within=200, under=under)
    if "this system refuses" in errors:
        pytest.skip(errors)
    assert (code, errors) == (0, "")
    facts = json.loads(output)
    assert facts["proved"] is True
    assert len(facts["claims"]) >= 7
    assert all(claim["holds"] is True and claim["claim"] for claim in facts["claims"])
    assert (facts["kubectl"], facts["apiServer"]) == ("", server)
    assert facts["imdsRequestsFromPods"] == 0
    assert 0 < facts["secondsToReady"] < facts["seconds"]
