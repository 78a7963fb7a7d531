"""The acceptance scenarios, each by its id, in a lab on the embedded and on the real API server.

All that are asked for are played when the first of them is, several at a time: `scenarios/runner.py`.
"""

from __future__ import annotations

import pytest
from tests.scenarios.catalogue import SCENARIOS
from tests.scenarios.runner import Result

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]

CASES = [(server, one.id) for server in ("embedded", "real") for one in SCENARIOS if server in one.servers]


@pytest.mark.parametrize(("server", "id_"), CASES, ids=[f"{server}-{id_}" for server, id_ in CASES])
async def test_scenario(server: str, id_: str, results: dict[str, Result]) -> None:
    """Protects what users of the original rely on: all that the scenario says holds, and nothing is left of it."""
    result = results.get(id_)
    assert result is not None, f"the lab on the {server} API server was not there to the end"
    assert not result.failed, result.failed
