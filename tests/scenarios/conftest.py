"""The results of all scenarios that are asked for on a server, played once."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import pytest_asyncio
from tests.real_server import kubernetes_programs
from tests.scenarios.catalogue import SCENARIOS
from tests.scenarios.labs import shared_lab
from tests.scenarios.runner import Result, play_all


def _asked_for(request: pytest.FixtureRequest, server: str) -> set[str]:
    """Ids of the scenarios whose tests run on that server."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return {params["id_"] for params in calls if params.get("server") == server and "id_" in params}


def _keep(server: str, found: dict[str, Result]) -> None:
    """Write what was measured where ``PODIDENTITY_SCENARIO_TIMES`` says, for the page of scenarios."""
    if folder := os.environ.get("PODIDENTITY_SCENARIO_TIMES"):
        document = [asdict(one) for one in found.values()]
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{server}.json").write_text(json.dumps(document, indent=1))


@pytest.fixture(scope="session")
def played() -> dict[str, dict[str, Result]]:
    """Results by server, as far as scenarios were played; one whose lab did not start has none."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def results(
    request: pytest.FixtureRequest, server: str, played: dict[str, dict[str, Result]]
) -> dict[str, Result]:
    """What came of each scenario on the server; they are played when the first is asked for."""
    if server not in played:
        if server == "real":
            kubernetes_programs("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
        wanted, played[server] = _asked_for(request, server), {}
        async with shared_lab(server) as site:
            played[server] = await play_all(site, [one for one in SCENARIOS if one.id in wanted])
        _keep(server, played[server])
    return played[server]
