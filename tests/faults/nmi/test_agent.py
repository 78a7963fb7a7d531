"""Whatever happens to the node agent, a pod gets its own tokens or none, and never reaches the metadata service."""

from __future__ import annotations

import pytest
from tests.faults.nmi.faults import FAULTS, Fault, played
from tests.faults.nmi.site import Site

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.faults,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(400),
]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=str)
async def test_a_pod_gets_its_own_tokens_or_none(embedded_site: Site, fault: Fault) -> None:
    """No wrong token, no request of a pod at the metadata service, and soon afterwards every pod has tokens again."""
    await played(embedded_site, fault)
