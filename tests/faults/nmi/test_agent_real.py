"""The same faults of the node agent on the real API server; a short run plays those only that differ most there."""

from __future__ import annotations

import pytest
from tests.faults.conftest import LONG
from tests.faults.nmi.faults import FAULTS, Fault, played
from tests.faults.nmi.site import Site

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.faults,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(400),
]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS.values() if LONG or fault.real], ids=str)
async def test_a_pod_gets_its_own_tokens_or_none(real_site: Site, fault: Fault) -> None:
    """No wrong token, no request of a pod at the metadata service, and soon afterwards every pod has tokens again."""
    await played(real_site, fault)
