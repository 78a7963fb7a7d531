"""What the page on kubenet says about a shared bridge, in namespaces: what is open, and what closes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.datapath.conftest import NODE_IP, Net, ip

from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.rules import Datapath

pytestmark = pytest.mark.datapath
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "kubenet.md"
TABLE = re.compile(r"```text\n(table bridge .*?)```", re.DOTALL)


@pytest.fixture(params=["bridge"])
def net(request: pytest.FixtureRequest, capable: None, tmp_path: Path) -> Iterator[Net]:
    """A node with kubenet's bridge."""
    found = Net(request.param, tmp_path)
    found.start_imds()
    yield found
    found.close()


async def test_table_of_the_page_stops_a_pod_that_takes_anothers_address(net: Net) -> None:
    """Without it a second pod gets an answer as the first; with it neither its packets nor its ARP get through."""
    thief = f"{net.tag}thief"
    ip("netns", "add", thief)
    try:
        net._veth(thief, "eth0", net.node, "veth1")
        ip("-n", net.node, "link", "set", "veth1", "master", "cbr0")
        ip("-n", thief, "addr", "add", "10.244.0.8/24", "dev", "eth0")
        ip("-n", thief, "route", "add", "default", "via", "10.244.0.1")
        net.start_agent()
        tables = Nft(Datapath(target=NODE_IP), run=net.nft)
        await tables.install_guard()
        await tables.install_redirect()
        assert net.ask(thief) == "agent 10.244.0.8"
        ip("-n", net.pod, "link", "set", "eth0", "down")
        ip("-n", thief, "addr", "add", f"{net.pod_ip}/32", "dev", "eth0")
        assert net.ask(thief, source=net.pod_ip) == f"agent {net.pod_ip}", "the danger must be there"
        found = TABLE.search(PAGE.read_text())
        assert found is not None
        pairs = f'"veth0" . {net.pod_ip}, "veth1" . 10.244.0.8'
        await net.nft(("-f", "-"), found[1].replace('"veth1234" . 10.244.0.7', pairs))
        ip("-n", net.node, "neigh", "flush", "all")
        assert net.ask(thief, source=net.pod_ip) == "timeout"
        assert net.ask(thief, source="10.244.0.8") == "agent 10.244.0.8"
        ip("-n", net.pod, "link", "set", "eth0", "up")
        ip("-n", net.pod, "route", "replace", "default", "via", "10.244.0.1")
        assert net.ask(net.pod) == f"agent {net.pod_ip}"
    finally:
        ip("netns", "del", thief)
