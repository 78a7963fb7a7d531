"""The SDKs, unmodified, ask for an identity in every way they know, and get the token of that one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.nmi.conftest import Make, Start
from tests.nmi.fakes import claims
from tests.nmi.sdk.road import Way, javascript_command, outcomes, python_command

POD = "127.1.0.1"
RESOURCE_ID = "/subscriptions/s/resourcegroups/g/providers/microsoft.managedidentity/userassignedidentities/second"
NAMED = {
    "by-client": ("client_id", "CLIENT-of-second"),
    "by-object": ("object_id", "oid-of-client-of-second"),
    "by-resource": ("resource_id", RESOURCE_ID),
    "by-nothing": ("", ""),
    "by-default": ("default", ""),
}
EXPECTED = {row: "first" if row in {"by-nothing", "by-default"} else "second" for row in NAMED}


@pytest.mark.parametrize("command", [python_command, javascript_command], ids=["python", "javascript"])
async def test_d6_every_way_to_name_an_identity(
    start: Start, make: type[Make], command: Callable[[], list[str]]
) -> None:
    """Client id, object id and resource id find the pod's second identity; with none named it is the first."""
    bench = await start()
    pod = make.pod(ip=POD)
    bench.put_pod(pod)
    bench.put_assigned(*(make.assigned(pod, make.identity(name)) for name in ("first", "second")))
    found = await outcomes(command(), dict.fromkeys(NAMED, Way(bench.port, POD)), NAMED, NAMED)
    assert {row: one.name for row, one in found.items()} == dict.fromkeys(NAMED, "token"), found
    assert {row: claims(one.words)["oid"].removeprefix("oid-of-client-of-") for row, one in found.items()} == EXPECTED
