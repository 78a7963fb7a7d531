"""The results of all scenarios that are asked for on a server, played once."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import pytest_asyncio
from tests.real_server import kubernetes_programs
from tests.scenarios.catalogue import LABS
from tests.scenarios.labs import empty_lab, shared_lab
from tests.scenarios.runner import Result, play_all

from podidentity.lab.control_plane import PROGRAMS

LAB = {"shared": shared_lab, "upgrade": empty_lab}


def _asked_for(request: pytest.FixtureRequest, server: str) -> set[str]:
    """Ids of the scenarios whose tests run on that server."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return {params["id_"] for params in calls if params.get("server") == server and "id_" in params}


def _keep(server: str, lab: str, found: dict[str, Result]) -> None:
    """Write what was measured where ``PODIDENTITY_SCENARIO_TIMES`` says, for the page of scenarios."""
    if folder := os.environ.get("PODIDENTITY_SCENARIO_TIMES"):
        document = [asdict(one) for one in found.values()]
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{server}-{lab}.json").write_text(json.dumps(document, indent=1))


Played = dict[tuple[str, str], dict[str, Result]]


@pytest.fixture(scope="session")
def played() -> Played:
    """Results by server and lab, as far as scenarios were played; where a lab did not start there are none."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def results(request: pytest.FixtureRequest, server: str, id_: str, played: Played) -> dict[str, Result]:
    """What came of the scenarios of this one's lab; they are played when the first of them is asked for."""
    lab = next(name for name, scenarios in LABS.items() if any(one.id == id_ for one in scenarios))
    if (server, lab) not in played:
        kubernetes_programs("kubectl", *(PROGRAMS if server == "real" else ()))
        wanted, played[server, lab] = _asked_for(request, server), {}
        async with LAB[lab](server) as site:
            played[server, lab] = await play_all(site, [one for one in LABS[lab] if one.id in wanted])
        _keep(server, lab, played[server, lab])
    return played[server, lab]
