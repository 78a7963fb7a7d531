"""The lines that operators of the original look for are there, in its words."""

from __future__ import annotations

import re

import pytest
from tests.mic.conftest import Bench

pytestmark = pytest.mark.looptime

COMING = (
    r"processing node vmss, add \[1\], del \[0\], update \[0\]",
    r"creating assigned id .*default/p-default-id1",
    r"updating user-assigned identities on vmss, assign \[/subscriptions/\S+/id1\], unassign \[\]",
    r"processing node vmss, add \[0\], del \[0\], update \[1\]",
    r"updating assigned id status .*default/p-default-id1.*Assigned",
    r"work done: true. Found 1 pods, 1 ids, 1 bindings",
)
GOING = (
    r"processing node vmss, add \[0\], del \[1\], update \[0\]",
    r"deleting assigned id .*default/p-default-id1",
    r"updating user-assigned identities on vmss, assign \[\], unassign \[/subscriptions/\S+/id1\]",
    r"work done: true. Found 0 pods, 1 ids, 1 bindings",
)


async def test_a_pod_comes_and_goes(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Greps for what a node has to do, what ARM is asked, what is written and when it is done find it, in order."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 30)
    await bench.until(lambda: not bench.controller.reports()[0].waiting, 30)
    _in_order(capsys, COMING)
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {} and bench.controller.reports() == [], 300)
    _in_order(capsys, GOING)


def _in_order(capsys: pytest.CaptureFixture[str], wanted: tuple[str, ...]) -> None:
    lines = capsys.readouterr().err.splitlines()
    rest = iter(lines)
    missing = [text for text in wanted if not any(re.search(text, line) for line in rest)]
    assert not missing, lines
